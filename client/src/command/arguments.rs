//! Flags, variables and help. A flag wins over a variable, a variable over a file, a file over the default.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

const EXAMPLE: &str = "\
Examples:
  quorate put greeting hello
  quorate get greeting
  quorate get /users/ --prefix --json
  quorate cas balance 100 90
  quorate watch /config/ --prefix
  quorate status

Every answer is one that f + 1 replicas gave alike, so no f liars can change it.
Exit codes: 0 ok; 1 refused by the service (comparison failed, key not found with --fail); 2 usage or configuration;
3 no quorum in time, outcome unknown: the signed request is saved, and --request FILE replays it safely;
4 verification failed; 130 interrupted.";

/// Reads and writes a Quorate cluster: a key-value store that stays correct while f of its replicas lie.
#[derive(Parser, Debug)]
#[command(name = "quorate", version, after_long_help = EXAMPLE, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    /// How to reach the cluster.
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON instead of text: one object, or one a line for what goes on.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How to reach the cluster.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Directory with genesis.toml, endpoints.env and client.key [default: ./testnet].
    #[arg(long, value_name = "DIR", global = true, env = "QUORATE_CLUSTER")]
    pub cluster: Option<PathBuf>,
    /// Key file to sign with [default: client.key in the cluster directory; for client-key, admin.key if it is there].
    #[arg(long = "key", value_name = "FILE", global = true, env = "QUORATE_KEY")]
    pub key_file: Option<PathBuf>,
    /// Read the key's passphrase from this file, /dev/fd/N, or - for standard input [env: QUORATE_PASSPHRASE_FILE].
    #[arg(long, value_name = "FILE", global = true)]
    pub passphrase_file: Option<PathBuf>,
    /// Where a replica listens for clients, instead of what endpoints.env or genesis.toml says. May be repeated.
    #[arg(long, value_name = "ID=HOST:PORT", global = true)]
    pub endpoint: Vec<String>,
    /// How long to wait for f + 1 equal answers: 10s, 500ms.
    #[arg(long, value_name = "TIME", global = true, env = "QUORATE_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Send a request again that was saved when its outcome was unknown. Safe: it executes at most once.
    #[arg(long, value_name = "FILE", global = true)]
    pub request: Option<PathBuf>,
    /// Say more on stderr; twice for details.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Write a key.
    #[command(after_long_help = "Examples:\n  quorate put greeting hello\n  quorate put logo < logo.png")]
    Put(Put),
    /// Read a key, or all keys with a prefix.
    #[command(
        after_long_help = "Examples:\n  quorate get greeting\n  quorate get /users/ --prefix --limit 10 --json\n\n\
        A get takes its place in the cluster's order, which costs a round; --serializable does not, and may be a little behind."
    )]
    Get(Get),
    /// Delete a key, or all keys with a prefix.
    #[command(alias = "delete", after_long_help = "Example:\n  quorate del /users/ --prefix")]
    Del(Del),
    /// Write a key if it has a certain value (compare and swap).
    #[command(after_long_help = "Example:\n  quorate cas balance 100 90")]
    Cas(Cas),
    /// Execute a transaction from a file or standard input.
    #[command(after_long_help = TXN_EXAMPLE)]
    Txn(Txn),
    /// Follow the changes of a key, or of all keys with a prefix.
    #[command(after_long_help = "Example:\n  quorate watch /config/ --prefix --from 2")]
    Watch(Watch),
    /// Show where every replica stands, as it says itself.
    #[command(after_long_help = "Example:\n  quorate status --json")]
    Status,
    /// Read commands line by line, with one connection for all.
    #[command(after_long_help = "Example:\n  printf 'put a 1\\nget a\\n' | quorate shell")]
    Shell,
    /// Register or remove client keys; signed by an admin key.
    #[command(after_long_help = "Example:\n  quorate client-key add app1.pub --write --key admin.key")]
    ClientKey(ClientKey),
    /// Check evidence of misbehaviour, offline.
    #[command(after_long_help = "Example:\n  quorate verify evidence/e-1.json --genesis testnet/genesis.toml")]
    Verify(Verify),
    /// Print a completion script for a shell.
    #[command(
        after_long_help = "Example:\n  quorate completions bash > ~/.local/share/bash-completion/completions/quorate"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

const TXN_EXAMPLE: &str = "\
Examples, both the same:

  quorate txn <<'END'
  value(\"balance\") = \"100\"

  put balance 90

  get balance
  END

  quorate txn <<'END'
  compare:
    value(\"balance\") = \"100\"
  success:
    put balance 90
  failure:
    get balance
  END

A comparison is target(\"key\") = value, with target value, version, create, mod or lease, and =, !=, < or >.
An operation is put KEY VALUE, get KEY [END] [--prefix] [--limit N], or del KEY [END] [--prefix].";

/// `put`.
#[derive(Args, Debug)]
pub struct Put {
    /// The key.
    #[arg(allow_negative_numbers = true)]
    pub key: OsString,
    /// The value; read from standard input if it is left out.
    #[arg(allow_negative_numbers = true)]
    pub value: Option<OsString>,
}

/// `get`.
#[derive(Args, Debug)]
pub struct Get {
    /// The key, or the prefix.
    #[arg(allow_negative_numbers = true)]
    pub key: OsString,
    /// All keys that begin with KEY.
    #[arg(long)]
    pub prefix: bool,
    /// At most so many keys.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub limit: u64,
    /// As of this revision.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    pub rev: u64,
    /// Only the keys.
    #[arg(long)]
    pub keys_only: bool,
    /// Not ordered: what f + 1 replicas have executed alike, perhaps not the newest.
    #[arg(long)]
    pub serializable: bool,
    /// Exit with 1 if there is no such key.
    #[arg(long)]
    pub fail: bool,
}

/// `del`.
#[derive(Args, Debug)]
pub struct Del {
    /// The key, or the prefix.
    #[arg(allow_negative_numbers = true)]
    pub key: OsString,
    /// All keys that begin with KEY.
    #[arg(long)]
    pub prefix: bool,
}

/// `cas`.
#[derive(Args, Debug)]
pub struct Cas {
    /// The key.
    #[arg(allow_negative_numbers = true)]
    pub key: OsString,
    /// The value it must have.
    #[arg(allow_negative_numbers = true)]
    pub old: OsString,
    /// The value to write then.
    #[arg(allow_negative_numbers = true)]
    pub new: OsString,
}

/// `txn`.
#[derive(Args, Debug)]
pub struct Txn {
    /// The file; standard input if it is left out, or -.
    pub file: Option<PathBuf>,
    /// Exit with 1 if the comparisons fail.
    #[arg(long)]
    pub fail: bool,
}

/// `watch`.
#[derive(Args, Debug)]
pub struct Watch {
    /// The key, or the prefix.
    #[arg(allow_negative_numbers = true)]
    pub key: OsString,
    /// All keys that begin with KEY.
    #[arg(long)]
    pub prefix: bool,
    /// Begin with this revision instead of the next one.
    #[arg(long, value_name = "REVISION")]
    pub from: Option<u64>,
    /// Stop after so many revisions with changes.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// `client-key`.
#[derive(Args, Debug)]
pub struct ClientKey {
    /// What to do with the keys.
    #[command(subcommand)]
    pub change: ClientKeyChange,
}

/// `client-key add`, `client-key remove`.
#[derive(Subcommand, Debug)]
pub enum ClientKeyChange {
    /// Let keys read, and write with --write. Changes what registered keys may do.
    Add {
        /// Public files of client keys.
        #[arg(required = true, value_name = "FILE.pub")]
        files: Vec<PathBuf>,
        /// They may also write.
        #[arg(long)]
        write: bool,
    },
    /// End the registration of keys.
    Remove {
        /// Public files of client keys.
        #[arg(required = true, value_name = "FILE.pub")]
        files: Vec<PathBuf>,
    },
}

/// `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// The evidence.
    #[arg(value_name = "EVIDENCE.json")]
    pub evidence: PathBuf,
    /// The cluster's genesis file [default: genesis.toml in the cluster directory].
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
}

/// `10s`, `500ms`, `2m`, or seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a time; write 10s, 500ms or 2m"))?;
    let millis = match &text[digits.len()..] {
        "ms" => Some(number),
        "s" | "" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    // A day bounds what is added to clocks later.
    let millis = millis.filter(|millis| (1..=86_400_000).contains(millis));
    millis.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is not a time from 1ms to a day"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        for bad in ["", "s", "0", "10h", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
