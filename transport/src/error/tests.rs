use super::*;

#[test]
fn close_codes_are_distinct_and_read_back() {
    for code in CloseCode::ALL {
        assert_eq!(CloseCode::from_number(u64::from(code.number())), Some(code));
    }
    assert_eq!(CloseCode::from_number(99), None);
}

#[test]
fn a_reason_from_outside_cannot_drive_a_terminal() {
    let shown = printable(b"\x1b[2Jboo\r\n\xff");
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert!(printable(&[b'x'; 10_000]).len() <= SHOWN_REASON);
}

#[test]
fn an_unknown_code_is_a_violation_with_its_reason() {
    assert_eq!(explain_close(77, "odd"), LinkError::Violation("odd".to_owned()));
    assert_eq!(explain_close(4, "unknown client key"), LinkError::UnknownClientKey);
}
