use super::*;

fn put(key: &str, value: &str) -> TxnOperation {
    TxnOperation::Put(PutRequest::new(key, value))
}

fn compare(key: &str, relation: Relation, target: CompareTarget) -> Compare {
    Compare { range: KeyRange::single(key), relation, target }
}

fn swap() -> TxnRequest {
    TxnRequest {
        compare: vec![
            compare("balance", Relation::Equal, CompareTarget::Value(b"100".to_vec())),
            compare("lock", Relation::Less, CompareTarget::ModRevision(7)),
        ],
        success: vec![put("balance", "90"), TxnOperation::Delete(DeleteRequest::new(KeyRange::prefix("tmp/")))],
        failure: vec![TxnOperation::Range(RangeRequest::new(KeyRange::single("balance")))],
    }
}

#[test]
fn the_form_of_etcdctl() {
    let text =
        "value(\"balance\") = \"100\"\nmod(\"lock\") < \"7\"\n\nput balance 90\ndel tmp/ --prefix\n\nget balance\n\n";
    assert_eq!(parse(text), Ok(swap()));
}

#[test]
fn the_form_with_labels() {
    let text = "# a comment\n\ncompare:\n  value(\"balance\") = \"100\"\n\n  mod(lock) < 7\nSuccess: put balance 90\n  \
                delete tmp/ --prefix\nfailure:\n  get balance\n";
    assert_eq!(parse(text), Ok(swap()));
}

#[test]
fn blocks_may_be_empty_or_missing() {
    assert_eq!(parse(""), Ok(TxnRequest::default()));
    assert_eq!(parse("\nput a b\n"), Ok(TxnRequest { success: vec![put("a", "b")], ..TxnRequest::default() }));
    assert_eq!(parse("\n\nput a b"), Ok(TxnRequest { failure: vec![put("a", "b")], ..TxnRequest::default() }));
    assert_eq!(parse("failure:\nput a b"), Ok(TxnRequest { failure: vec![put("a", "b")], ..TxnRequest::default() }));
}

#[test]
fn every_target_and_relation() {
    let target = |line: &str| parse_compare(line).expect(line);
    assert_eq!(target("val(\"k\") != 'v w'").target, CompareTarget::Value(b"v w".to_vec()));
    assert_eq!(target("ver(\"k\") == 3").relation, Relation::Equal);
    assert_eq!(target("version(k)=3").target, CompareTarget::Version(3));
    assert_eq!(target("c(\"k\") > \"3\"").target, CompareTarget::CreateRevision(3));
    assert_eq!(target("create(\"k\") > 3").relation, Relation::Greater);
    assert_eq!(target("lease(\"k\") = 0").target, CompareTarget::Lease(0));
    assert_eq!(target("value(\"a)b\\x00\") = \"\"").range, KeyRange::single(b"a)b\0".to_vec()));
}

#[test]
fn ranges_in_operations() {
    let range = |line: &str| match parse_operation(line).expect(line) {
        TxnOperation::Range(request) => (request.range, request.limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(range("get a"), (KeyRange::single("a"), 0));
    assert_eq!(range("get a b"), (KeyRange::interval("a", "b"), 0));
    assert_eq!(range("get --prefix a --limit 5"), (KeyRange::prefix("a"), 5));
    assert_eq!(range("get a --limit=5"), (KeyRange::single("a"), 5));
    assert_eq!(range("get \"--prefix\""), (KeyRange::single("--prefix"), 0));
}

#[test]
fn quoting() {
    let words = |line: &str| split(line).map(|words| words.into_iter().map(|word| word.bytes).collect::<Vec<_>>());
    assert_eq!(
        words("put 'a b' \"c\\\"d\\n\" e\\ f"),
        Ok(vec![b"put".to_vec(), b"a b".into(), b"c\"d\n".into(), b"e f".into()])
    );
    assert_eq!(words("'it''s' \"\" '\\n'"), Ok(vec![b"its".to_vec(), Vec::new(), b"\\n".to_vec()]));
    assert_eq!(words("\\xff\\x00"), Ok(vec![vec![255, 0]]));
    assert_eq!(words("  "), Ok(Vec::new()));
    assert!(words("'open").is_err());
    assert!(words("a\\").is_err());
    assert!(words("\\xg0").is_err());
    assert!(words("\\x0").is_err());
}

#[test]
fn errors_name_the_line_and_what_would_be_right() {
    for (text, line, hint) in [
        ("value(\"k\") ~ 1", 1, "=, !=, < or >"),
        ("value \"k\" = 1", 1, "target(\"key\")"),
        ("version(\"k\") = x", 1, "not a number"),
        ("size(\"k\") = 1", 1, "no target"),
        ("value(\"k\") = a b", 1, "quotes"),
        ("\nput a", 2, "put KEY VALUE"),
        ("\n\nwatch a", 3, "use put, get or del"),
        ("\n\n\nput a b", 4, "three blocks"),
        ("compare:\nsuccess:\n  del a --limit 3", 3, "no --limit"),
        ("success:\n  get a --reverse", 2, "no flag"),
        ("success:\n  get", 2, "needs a key"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.to_string().contains(hint), "{text}: {error}");
    }
}
