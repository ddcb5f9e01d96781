//! Where a node listens: a host name or an IP address, and a port. Resolving names is the node's business.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Longest host name in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// `host:port`; an IPv6 address stands in brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why text is no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// No colon.
    #[error("an address is host:port")]
    NoPort,
    /// Not 1 to 65535.
    #[error("the port must be 1 to 65535")]
    BadPort,
    /// Not a name and not an address.
    #[error("the host must be a name, an IPv4 address, or an IPv6 address in brackets")]
    BadHost,
}

impl Address {
    /// The host: a name, an IPv4 address, or an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The same host with another port. `None` for port 0.
    pub fn with_port(&self, port: u16) -> Option<Address> {
        (port != 0).then(|| Address { host: self.host.clone(), port })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        // `parse` alone would take a leading plus sign.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::BadPort);
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(AddressError::BadPort)?;
        let host = if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            inner.parse::<Ipv6Addr>().map_err(|_| AddressError::BadHost)?.to_string()
        } else {
            let named = !host.is_empty()
                && host.len() <= HOST_BYTES_MAX
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
            if !named {
                return Err(AddressError::BadHost);
            }
            host.to_owned()
        };
        Ok(Address { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.host.parse(), Ok(IpAddr::V6(_))) {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:7400", "[::1]:1", "node-0.example.org:65535", "[2001:db8::7]:443"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let address: Address = "[::1]:7400".parse().unwrap();
        assert_eq!((address.host(), address.port()), ("::1", 7400));
        assert_eq!(address.with_port(7600).unwrap().to_string(), "[::1]:7600");
        assert_eq!(address.with_port(0), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for (text, error) in [
            ("localhost", AddressError::NoPort),
            ("localhost:", AddressError::BadPort),
            ("localhost:0", AddressError::BadPort),
            ("localhost:65536", AddressError::BadPort),
            ("localhost:+1", AddressError::BadPort),
            (":7400", AddressError::BadHost),
            ("::1:7400", AddressError::BadHost),
            ("[::g]:7400", AddressError::BadHost),
            ("two words:7400", AddressError::BadHost),
            ("a\"b:7400", AddressError::BadHost),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
        assert_eq!(format!("{}:1", "a".repeat(254)).parse::<Address>(), Err(AddressError::BadHost));
    }
}
