//! A client of etcd: gRPC with the fields of its messages that a load takes, by their numbers in etcd's `rpc.proto`.
//!
//! | call | request | answer |
//! |---|---|---|
//! | `KV/Put` | key, value | header |
//! | `KV/Txn` | success: puts, without a comparison | header, succeeded |
//! | `Maintenance/Status` | | header, version, leader |
//!
//! Fields that are not named here are skipped by the decoder, as protobuf wants it.

use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use quorate_kv::PutRequest as Put;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::bench::load::Target;

const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
    #[prost(uint64, tag = "4")]
    raft_term: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestOp {
    /// Of the oneof `request`; the others are not sent.
    #[prost(message, optional, tag = "2")]
    request_put: Option<PutRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// Where a member stands, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its version: `3.4.30`.
    pub version: String,
    /// Its number.
    pub member: u64,
    /// The number of the member that leads; 0 for none.
    pub leader: u64,
    /// The term.
    pub term: u64,
}

/// A connection to one member, which many clients may share.
#[derive(Clone, Debug)]
pub struct Client {
    grpc: Grpc<Channel>,
    patience: Duration,
}

fn sentence(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

impl Client {
    /// Connects to the member that listens at `address`; every call may take as long as `patience`.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(address: SocketAddr, patience: Duration) -> Result<Client, String> {
        let unreachable = |error: tonic::transport::Error| format!("etcd at {address} is not reached: {error}");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
        let endpoint = endpoint.connect_timeout(patience).timeout(patience).tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok(Client { grpc: Grpc::new(channel), patience })
    }

    async fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<A, String>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| format!("the connection to etcd broke: {error}"))?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(Request::new(question), path, ProstCodec::<Q, A>::default()).await;
        answer.map(tonic::Response::into_inner).map_err(|status| sentence(&status))
    }

    /// Where the member stands.
    ///
    /// # Errors
    /// It does not answer, or says nothing of itself.
    pub async fn status(&self) -> Result<Standing, String> {
        let StatusResponse { header, version, leader } = self.call(STATUS, StatusRequest {}).await?;
        let header = header.ok_or("etcd answered without a header")?;
        Ok(Standing { version, member: header.member_id, leader, term: header.raft_term })
    }
}

impl Target for Client {
    type Error = String;

    fn patience(&self) -> Duration {
        self.patience
    }

    /// One put by itself, several in a transaction.
    async fn write(&self, puts: Vec<Put>) -> Result<(), String> {
        let mut puts = puts.into_iter().map(|Put { key, value, .. }| PutRequest { key, value });
        let (header, succeeded) = match (puts.len(), puts.next()) {
            (1, Some(put)) => {
                let PutResponse { header } = self.call(PUT, put).await?;
                (header, true)
            }
            (_, first) => {
                let success = first.into_iter().chain(puts).map(|put| RequestOp { request_put: Some(put) }).collect();
                let TxnResponse { header, succeeded } = self.call(TXN, TxnRequest { success }).await?;
                (header, succeeded)
            }
        };
        // What was written has a revision: without one this was an answer to something else.
        match header {
            Some(header) if succeeded && header.revision > 0 => Ok(()),
            _ => Err("etcd answered without having written".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_that_etcd_reads() {
        let put = PutRequest { key: b"k".to_vec(), value: b"vw".to_vec() };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x02vw");
        let txn = TxnRequest { success: vec![RequestOp { request_put: Some(put) }] };
        // success, its length; request_put, its length; the put.
        assert_eq!(txn.encode_to_vec(), b"\x12\x09\x12\x07\x0a\x01k\x12\x02vw");
    }

    #[test]
    fn answers_are_read_past_what_is_not_needed() {
        // header {cluster_id 1, member_id 2, revision 3, raft_term 4}, succeeded, one response (field 3).
        let bytes = b"\x0a\x08\x08\x01\x10\x02\x18\x03\x20\x04\x10\x01\x1a\x02\x12\x00";
        let answer = TxnResponse::decode(&bytes[..]).expect("protobuf");
        assert!(answer.succeeded);
        assert_eq!(answer.header, Some(ResponseHeader { member_id: 2, revision: 3, raft_term: 4 }));
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_said_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let refused = Client::connect(address, Duration::from_secs(2)).await.expect_err("nobody listens");
        assert!(refused.contains(&address.to_string()), "{refused}");
    }
}
