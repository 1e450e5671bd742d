//! Which addresses a name may lead to. One that led to the internet cannot lead into a network behind it later (DNS
//! rebinding), and none leads to where nobody serves an API, such as the metadata of a cloud. A name of an API that is
//! inside from the start is read like any other. Addresses that stand in the configuration are not asked about.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where an address is, as seen from this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// On the internet.
    Outside,
    /// This machine, or a network that is not the internet.
    Inside,
    /// Where no API is: this link alone, everybody at once, nobody, or what a cloud tells its own machines.
    Nowhere,
}

/// Where clouds tell their machines secrets, beside 169.254.169.254: Alibaba's and Amazon's.
const METADATA: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];

/// Why none of the addresses of a name is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "its name now leads to {0}, inside of this network, and did not before (DNS rebinding); if that is meant, set \
         `allow_private_addresses = true` in the client"
    )]
    Moved(IpAddr),
    #[error(
        "its name leads to {0}, where no API is expected; if that is meant, set `allow_private_addresses = true` in the \
         client"
    )]
    Nowhere(IpAddr),
}

type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Looks names up, and leaves out what must not be asked. What it hands over is what is connected to.
#[derive(Clone)]
pub(super) struct Resolver {
    /// For each name whether it was inside when it was first looked up; there are as many as in the configuration.
    inside: Arc<Mutex<HashMap<String, bool>>>,
    lookup: Lookup,
}

impl Resolver {
    /// One that asks the system.
    pub(super) fn of_system() -> Self {
        Self::new(Arc::new(|name| async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }.boxed()))
    }

    pub(super) fn new(lookup: Lookup) -> Self {
        Self { inside: Arc::default(), lookup }
    }

    /// The addresses of a name that may be asked.
    fn admit(&self, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let reaches = |reach: Reach| found.iter().find(|address| reach_of(address.ip()) == reach);
        let (outside, inside) = (reaches(Reach::Outside), reaches(Reach::Inside));
        if let (None, None, Some(nowhere)) = (outside, inside, found.first()) {
            return Err(Refused::Nowhere(nowhere.ip()));
        }
        let mut known = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let may_be_inside = *known.entry(name.to_owned()).or_insert(outside.is_none());
        if let (None, Some(inside), false) = (outside, inside, may_be_inside) {
            return Err(Refused::Moved(inside.ip()));
        }
        let is_fit = |address: &SocketAddr| match reach_of(address.ip()) {
            Reach::Outside => true,
            Reach::Inside => may_be_inside,
            Reach::Nowhere => false,
        };
        Ok(found.into_iter().filter(is_fit).collect())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = (resolver.lookup)(name.as_str().to_owned()).await?;
            Ok(Box::new(resolver.admit(name.as_str(), found)?.into_iter()) as Addrs)
        })
    }
}

fn reach_of(address: IpAddr) -> Reach {
    if METADATA.contains(&address) {
        return Reach::Nowhere;
    }
    match address {
        IpAddr::V4(address) => reach_of_v4(address),
        IpAddr::V6(address) => match v4_in(address) {
            Some(inner) => reach_of(IpAddr::V4(inner)),
            None => reach_of_v6(address),
        },
    }
}

/// By the registry of RFC 6890.
fn reach_of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [0 | 224..=255, ..] | [169, 254, ..] => Reach::Nowhere,
        [10 | 127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Inside,
        [192, 0, 0, _] | [198, 18 | 19, ..] => Reach::Inside,
        _ => Reach::Outside,
    }
}

fn reach_of_v6(address: Ipv6Addr) -> Reach {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xfe80..=0xfebf, ..] | [0xff00..=0xffff, ..] => Reach::Nowhere,
        [0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Inside,
        _ => Reach::Outside,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped and compatible (RFC 4291 §2.5.5), 6to4 (RFC 3056), or behind a
/// NAT64 (RFC 6052, RFC 8215).
fn v4_in(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => of(high, low),
        [0x64, 0xff9b, 0 | 1, _, _, _, high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Reach, Refused, Resolver, reach_of};
    use std::net::{IpAddr, SocketAddr};

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn n09_every_form_of_an_address_is_seen_for_what_it_is() {
        let cases = [
            (Reach::Outside, &["1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111"][..]),
            (Reach::Outside, &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "169.253.255.255"]),
            (Reach::Inside, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.9.9.9"]),
            (Reach::Inside, &["100.64.0.1", "100.127.255.255", "192.0.0.8", "198.19.0.1", "::1", "fd12::1", "fec0::1"]),
            (Reach::Inside, &["::ffff:10.0.0.1", "::ffff:127.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1"]),
            (Reach::Inside, &["64:ff9b:1::192.168.0.1", "2002:0a00:0001::", "2002:7f00:1::1"]),
            (Reach::Nowhere, &["0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255", "240.0.0.1"]),
            (Reach::Nowhere, &["::", "fe80::1", "febf::1", "ff02::1", "100.100.100.200", "fd00:ec2::254"]),
            (
                Reach::Nowhere,
                &["::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::", "::ffff:0.0.0.0"],
            ),
            (Reach::Nowhere, &["::ffff:100.100.100.200"]),
        ];
        for (reach, texts) in cases {
            for text in texts {
                assert_eq!(reach_of(text.parse::<IpAddr>().unwrap()), reach, "{text}");
            }
        }
    }

    #[test]
    fn n09_a_name_that_led_outside_never_leads_inside() {
        let resolver = Resolver::of_system();
        let admit = |name: &str, found: &[&str]| resolver.admit(name, addresses(found));
        // Outside from the start: what is inside is left out, and refused where there is nothing else.
        assert_eq!(admit("out", &["1.1.1.1", "10.0.0.1"]), Ok(addresses(&["1.1.1.1"])));
        assert_eq!(admit("out", &["10.0.0.1", "::1"]), Err(Refused::Moved("10.0.0.1".parse().unwrap())));
        assert_eq!(admit("out", &["::ffff:127.0.0.1"]), Err(Refused::Moved("::ffff:127.0.0.1".parse().unwrap())));
        assert_eq!(admit("out", &["1.0.0.1"]), Ok(addresses(&["1.0.0.1"])));
        // Inside from the start: an API of one's own, wherever it moves.
        for found in [&["10.0.0.1", "fd12::1"][..], &["192.168.0.1"], &["1.1.1.1"], &["127.0.0.1"]] {
            assert_eq!(admit("in", found), Ok(addresses(found)));
        }
        // Nowhere, from the start or later, alone or beside others.
        let metadata = "169.254.169.254";
        assert_eq!(admit("new", &[metadata]), Err(Refused::Nowhere(metadata.parse().unwrap())));
        assert_eq!(admit("in", &[metadata]), Err(Refused::Nowhere(metadata.parse().unwrap())));
        assert_eq!(admit("in", &[metadata, "10.0.0.1"]), Ok(addresses(&["10.0.0.1"])));
        // What was refused decides nothing about the name.
        assert_eq!(admit("new", &["10.0.0.1"]), Ok(addresses(&["10.0.0.1"])));
        assert_eq!(admit("new", &[]), Ok(Vec::new()));
    }
}
