#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(target) = quorate_testnet::fuzz::Target::by_name("log") {
        target.run(input);
    }
});
