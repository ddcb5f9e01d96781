//! Every test under both protocols. The crate's own tests take this file as well (`node/src/lib.rs`).

/// Makes two tests of each function that takes a protocol, `pbft::name` and `hotstuff::name`. Behind `async:` stand
/// those that need a runtime.
macro_rules! under_both {
    (async: $($name:ident),+ $(,)?) => {
        mod pbft {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(quorate_keys::Protocol::Pbft).await;
                }
            )+
        }
        mod hotstuff {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(quorate_keys::Protocol::HotStuff).await;
                }
            )+
        }
    };
    ($($name:ident),+ $(,)?) => {
        mod pbft {
            $(
                #[test]
                fn $name() {
                    super::$name(quorate_keys::Protocol::Pbft);
                }
            )+
        }
        mod hotstuff {
            $(
                #[test]
                fn $name() {
                    super::$name(quorate_keys::Protocol::HotStuff);
                }
            )+
        }
    };
}
