//! The many ways to write an address that must not be reached.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

/// IPv4 addresses of every kind that is not public.
const V4: [Ipv4Addr; 16] = [
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 1, 2, 3),
    Ipv4Addr::new(0, 0, 0, 0),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(192, 168, 1, 1),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(198, 18, 0, 1),
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(203, 0, 113, 5),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::new(240, 0, 0, 1),
    Ipv4Addr::new(255, 255, 255, 255),
];

/// IPv6 hosts that are not public by themselves.
const V6: [&str; 20] = [
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[fe80::1]",
    "[febf::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fdff:ffff::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[100::1]",
    "[5f00::1]",
    "[2001::1]",
    "[2001:2::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[2001:db8::1]",
    "[3fff::1]",
];

/// An address as the parts of a URL parser that no person writes.
fn forms(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let number = u32::from(address);
    let (low24, low16) = (number & 0xff_ffff, number & 0xffff);
    let (high, low) = (number >> 16, number & 0xffff);
    let digits = |zero: u32| {
        let wide = |c: char| c.to_digit(10).and_then(|digit| char::from_u32(zero + digit)).unwrap_or('\u{3002}');
        address.to_string().chars().map(wide).collect::<String>()
    };
    let inverted = !number;
    vec![
        address.to_string(),
        format!("{address}."),
        number.to_string(),
        format!("{number:#x}"),
        format!("{number:#X}").replace("0X", "0x"),
        format!("0{number:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{low24}"),
        format!("{a}.{b}.{low16}"),
        format!("{a:#x}.0{b:o}.{low16}"),
        address.to_string().chars().map(|c| format!("%{:02x}", u32::from(c))).collect(),
        digits(0xff10),
        digits(0x1d7ce),
        format!("[::ffff:{address}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:ffff:{high:x}:{low:x}]"),
        format!("[::ffff:0:{address}]"),
        format!("[::{address}]"),
        format!("[64:ff9b::{address}]"),
        format!("[64:ff9b:1::{address}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:808:808::{:x}:{:x}]", inverted >> 16, inverted & 0xffff),
        format!("[2606:4700::5efe:{high:x}:{low:x}]"),
    ]
}

/// All hosts, as they would stand in a URL.
pub(crate) fn hosts() -> Vec<String> {
    V4.into_iter().flat_map(forms).chain(V6.iter().map(ToString::to_string)).collect()
}

/// Those that the own machine answers to, when nothing guards it: what a canary must hear without the guard.
pub(crate) fn hosts_of_this_machine() -> Vec<String> {
    forms(Ipv4Addr::LOCALHOST).into_iter().take(17).collect()
}

/// The addresses that they stand for.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = hosts()
        .iter()
        .filter_map(|host| match Url::parse(&format!("http://{host}/")).ok()?.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}
