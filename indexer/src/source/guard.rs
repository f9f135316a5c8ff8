//! Which network addresses may be reached: the public ones, and those that the operator allows. Pure; resolves
//! nothing and opens nothing.
//!
//! A caller who names a URL must not reach through us what only we can reach: our own machine, the network around
//! it, the cloud's metadata. The tables are IANA's special-purpose address registries, and the IPv6 forms that carry
//! an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) are judged by what they carry too. For IPv6 the
//! rule is the other way round: only global unicast is public. A NAT64 prefix of a network's own cannot be told from
//! ordinary addresses; such a network has to filter for itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

const fn v4(a: u8, b: u8, c: u8, d: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)
}

const fn v6(first: [u16; 4], len: u8) -> Ipv6Net {
    let [a, b, c, d] = first;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), len)
}

/// IPv4 networks that are not public.
const FORBIDDEN_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),          // "this network"; 0.0.0.0 reaches the own machine
    v4(10, 0, 0, 0, 8),         // private
    v4(100, 64, 0, 0, 10),      // carrier-grade NAT; a cloud's metadata
    v4(127, 0, 0, 0, 8),        // loopback
    v4(168, 63, 129, 16, 32),   // a cloud's metadata, though it looks public
    v4(169, 254, 0, 0, 16),     // link-local; most clouds' metadata
    v4(172, 16, 0, 0, 12),      // private
    v4(192, 0, 0, 0, 24),       // protocol assignments; a cloud's metadata
    v4(192, 0, 2, 0, 24),       // documentation
    v4(192, 88, 99, 0, 24),     // 6to4 relays
    v4(192, 168, 0, 0, 16),     // private
    v4(198, 18, 0, 0, 15),      // benchmarks
    v4(198, 51, 100, 0, 24),    // documentation
    v4(203, 0, 113, 0, 24),     // documentation
    v4(224, 0, 0, 0, 4),        // multicast
    v4(240, 0, 0, 0, 4),        // reserved
    v4(255, 255, 255, 255, 32), // broadcast
];

/// What is public in IPv6: everything else is loopback, link-local, unique local, multicast, a translation prefix
/// or not assigned.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// Networks inside [`GLOBAL_V6`] that are not public.
const FORBIDDEN_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0, 0], 23),     // protocol assignments, among them Teredo, ORCHID and benchmarks
    v6([0x2001, 0xdb8, 0, 0], 32), // documentation
    v6([0x2002, 0, 0, 0], 16),     // 6to4
    v6([0x3fff, 0, 0, 0], 20),     // documentation
];

const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);
const NAT64_LOCAL: Ipv6Net = v6([0x64, 0xff9b, 1, 0], 48);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0], 16);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0], 32);
const COMPATIBLE: Ipv6Net = v6([0, 0, 0, 0], 96);

/// Whether an address must not be reached. What `allow_networks` holds may be, unless an IPv4 address that it
/// carries may not.
pub fn is_forbidden(address: IpAddr, allow_networks: &[IpNet]) -> bool {
    let is_allowed = |address: IpAddr| allow_networks.iter().any(|network| network.contains(&address));
    // A mapped address is the IPv4 address itself: the system dials that.
    let address = address.to_canonical();
    match address {
        IpAddr::V4(own) => FORBIDDEN_V4.iter().any(|network| network.contains(&own)) && !is_allowed(address),
        IpAddr::V6(own) => {
            let is_special = !GLOBAL_V6.contains(&own) || FORBIDDEN_V6.iter().any(|network| network.contains(&own));
            let carried = carried_v4(own);
            (is_special && !is_allowed(address)) || carried.iter().any(|v4| is_forbidden((*v4).into(), allow_networks))
        }
    }
}

/// The IPv4 addresses that an IPv6 address carries, in the forms that some network or system unwraps.
fn carried_v4(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let segments = address.segments();
    let at = |i: usize| {
        let ([a, b], [c, d]) = (segments[i].to_be_bytes(), segments[i + 1].to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    let mut carried = Vec::new();
    let is_compatible = COMPATIBLE.contains(&address) && !address.is_loopback() && !address.is_unspecified();
    if is_compatible || NAT64.contains(&address) {
        carried.push(at(6));
    }
    if NAT64_LOCAL.contains(&address) {
        // RFC 6052: behind a /48 the address stands in bits 48..64 and 72..88; behind a /96, at the end.
        let ([a, b], [_, c], [d, _]) =
            (segments[3].to_be_bytes(), segments[4].to_be_bytes(), segments[5].to_be_bytes());
        carried.extend([Ipv4Addr::new(a, b, c, d), at(6)]);
    }
    if SIX_TO_FOUR.contains(&address) {
        carried.push(at(1));
    }
    if TEREDO.contains(&address) {
        let client = Ipv4Addr::from(!u32::from(at(6)));
        carried.extend([at(2), client]);
    }
    if matches!(segments[4], 0 | 0x200) && segments[5] == 0x5efe {
        carried.push(at(6));
    }
    carried
}

/// Why a URL or a host must not be reached; public text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(pub(super) &'static str);

pub(super) const FORBIDDEN_ADDRESS: Forbidden =
    Forbidden("the URL's host is at no public address, nor at one in allow_networks of the configuration");

/// The addresses that may be reached.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow_networks: Vec<IpNet>,
}

impl Guard {
    /// The public addresses and these networks.
    pub fn new(allow_networks: Vec<IpNet>) -> Self {
        Self { allow_networks }
    }

    /// Whether an address must not be reached.
    pub fn is_forbidden(&self, address: IpAddr) -> bool {
        is_forbidden(address, &self.allow_networks)
    }

    /// Checks what a URL says by itself: http or https, no user or password, and a host that is a name or an address
    /// that may be reached. What a name leads to is checked when it is resolved.
    ///
    /// # Errors
    /// Why not.
    pub fn check_url(&self, url: &Url) -> Result<(), Forbidden> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Forbidden("only http:// and https:// are fetched"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden("the URL must hold no user or password"));
        }
        // The parser has turned the decimal, octal, hexadecimal and short forms into addresses.
        let address: IpAddr = match url.host() {
            None => return Err(Forbidden("the URL must name a host")),
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
        };
        if self.is_forbidden(address) { Err(FORBIDDEN_ADDRESS) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(address: &str, allow: &[&str], expected: bool) {
        let allow: Vec<IpNet> = allow.iter().map(|network| network.parse().expect("network")).collect();
        let parsed = address.parse().expect(address);
        assert_eq!(is_forbidden(parsed, &allow), expected, "{address} with {allow:?}");
    }

    #[test]
    fn public_addresses_are_reached() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
            "2001:200::1",
            "::ffff:8.8.8.8",
        ] {
            check(public, &[], false);
        }
    }

    #[test]
    fn allowed_networks_open_only_themselves() {
        check("127.0.0.1", &["127.0.0.0/8"], false);
        check("::ffff:127.0.0.1", &["127.0.0.0/8"], false);
        check("::1", &["127.0.0.0/8"], true);
        check("::1", &["::1/128"], false);
        check("10.1.2.3", &["10.1.0.0/16"], false);
        check("10.2.0.1", &["10.1.0.0/16"], true);
        // A translation prefix that is allowed carries only what may be reached.
        check("64:ff9b::808:808", &["64:ff9b::/96"], false);
        check("64:ff9b::7f00:1", &["64:ff9b::/96"], true);
        check("64:ff9b::7f00:1", &["64:ff9b::/96", "127.0.0.0/8"], false);
        check("64:ff9b::7f00:1", &["127.0.0.0/8"], true);
        check("2002:7f00:1::", &["2002::/16"], true);
        check("fd00::5efe:7f00:1", &["fd00::/8"], true);
        check("fd00::1", &["fd00::/8"], false);
    }

    proptest! {
        /// The standard library's own notions of what is not public are all forbidden, wrapped or not.
        #[test]
        fn whatever_is_not_public_is_forbidden(bits: u32, wrap in 0_u8..6) {
            let v4 = Ipv4Addr::from(bits);
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
                || v4.is_documentation() || v4.is_multicast() || v4.is_unspecified() || v4.octets()[0] >= 240;
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let address: IpAddr = match wrap {
                0 => v4.into(),
                1 => v4.to_ipv6_mapped().into(),
                2 => Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into(),
                3 => Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into(),
                4 => Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low).into(),
                _ => Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0x200, 0x5efe, high, low).into(),
            };
            let everything_v6 = ["::/0".parse().expect("network")];
            if is_special {
                prop_assert!(is_forbidden(address, &[]), "{address}");
                prop_assert!(is_forbidden(address, &everything_v6), "{address}: what it carries counts for itself");
            }
        }
    }
}
