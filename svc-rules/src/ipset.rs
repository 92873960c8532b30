//! ipsets: the tables of addresses and ports that `-m set` consults, and the text of `ipset save` and `ipset restore`.
//!
//! Covered are the set types whose dimensions are addresses, networks and ports, which is all that kube-proxy's IPVS
//! mode uses; other types are refused by name rather than half understood.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
use smol_str::SmolStr;

use crate::packet::{Family, Packet, Transport};

/// The longest name the kernel takes (`IPSET_MAXNAMELEN` less the terminating zero).
pub const MAX_NAME: usize = 31;

/// A set type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetType {
    /// `bitmap:port`: port numbers, of any protocol.
    BitmapPort,
    /// `hash:ip`.
    HashIp,
    /// `hash:net`.
    HashNet,
    /// `hash:ip,port`: the port carries its protocol.
    HashIpPort,
    /// `hash:net,port`.
    HashNetPort,
    /// `hash:ip,port,ip`.
    HashIpPortIp,
    /// `hash:ip,port,net`.
    HashIpPortNet,
}

impl SetType {
    const ALL: [(Self, &'static str); 7] = [
        (Self::BitmapPort, "bitmap:port"),
        (Self::HashIp, "hash:ip"),
        (Self::HashNet, "hash:net"),
        (Self::HashIpPort, "hash:ip,port"),
        (Self::HashNetPort, "hash:net,port"),
        (Self::HashIpPortIp, "hash:ip,port,ip"),
        (Self::HashIpPortNet, "hash:ip,port,net"),
    ];

    /// The name ipset uses.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Reads the name ipset uses.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }

    const fn has_address(self) -> bool {
        !matches!(self, Self::BitmapPort)
    }

    const fn has_port(self) -> bool {
        !matches!(self, Self::HashIp | Self::HashNet)
    }

    const fn has_second(self) -> bool {
        matches!(self, Self::HashIpPortIp | Self::HashIpPortNet)
    }

    const fn takes_networks(self) -> bool {
        matches!(self, Self::HashNet | Self::HashNetPort | Self::HashIpPortNet)
    }
}

/// One member of a set. Which fields are present follows from the set's type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// First address or network; a single address has a full-length prefix.
    pub address: Option<IpNet>,
    /// Port, with its protocol except in `bitmap:port`.
    pub port: Option<(Option<Transport>, u16)>,
    /// Second address or network.
    pub second: Option<IpNet>,
}

impl Entry {
    /// Reads one entry as `ipset add` takes it for a set of type `kind`.
    pub fn parse(text: &str, kind: SetType) -> Option<Self> {
        let mut parts = text.split(',');
        let address = if kind.has_address() { Some(parse_net(parts.next()?)?) } else { None };
        let port = if kind.has_port() { Some(parse_port(parts.next()?, kind)?) } else { None };
        let second = if kind.has_second() { Some(parse_net(parts.next()?)?) } else { None };
        parts.next().is_none().then_some(Self { address, port, second })
    }
}

fn parse_net(text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        Some(_) => text.parse::<IpNet>().ok().map(|net| net.trunc()),
        None => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

fn parse_port(text: &str, kind: SetType) -> Option<(Option<Transport>, u16)> {
    if kind == SetType::BitmapPort {
        return text.parse().ok().map(|port| (None, port));
    }
    match text.split_once(':') {
        Some((name, port)) => Some((Some(Transport::parse(name)?), port.parse().ok()?)),
        // A bare number means TCP.
        None => text.parse().ok().map(|port| (Some(Transport::TCP), port)),
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let net = |f: &mut fmt::Formatter<'_>, net: &IpNet| {
            if net.prefix_len() == net.max_prefix_len() {
                write!(f, "{}", net.addr())
            } else {
                write!(f, "{net}")
            }
        };
        if let Some(address) = &self.address {
            net(f, address)?;
        }
        if let Some((transport, port)) = &self.port {
            if self.address.is_some() {
                f.write_str(",")?;
            }
            match transport {
                Some(transport) => write!(f, "{transport}:{port}")?,
                None => write!(f, "{port}")?,
            }
        }
        if let Some(second) = &self.second {
            f.write_str(",")?;
            net(f, second)?;
        }
        Ok(())
    }
}

/// Which end of the packet a dimension of the set is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// `src`.
    Source,
    /// `dst`.
    Destination,
}

/// One set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpSet {
    /// Its type.
    pub kind: SetType,
    /// Address family; `bitmap:port` has none and shows `V4`.
    pub family: Family,
    /// Words of the `create` line after type and family (`hashsize 1024 maxelem 65536`, `range 0-65535`), without the
    /// `bucketsize` and `initval` that newer versions add by themselves.
    pub options: SmolStr,
    /// Members.
    pub entries: BTreeSet<Entry>,
}

impl IpSet {
    /// An empty set with ipset's default sizes.
    pub fn new(kind: SetType, family: Family) -> Self {
        let options = match kind {
            SetType::BitmapPort => "range 0-65535",
            _ => "hashsize 1024 maxelem 65536",
        };
        Self { kind, family, options: SmolStr::new_static(options), entries: BTreeSet::new() }
    }

    /// Whether the packet is in the set when its ends are taken as `sides` say, one for each dimension.
    /// Too few sides never match, as in the kernel.
    pub fn contains(&self, packet: &Packet, sides: &[Side]) -> bool {
        let mut sides = sides.iter().copied();
        let mut wanted = Entry { address: None, port: None, second: None };
        if self.kind.has_address() {
            let Some(side) = sides.next() else { return false };
            wanted.address = Some(IpNet::from(address(packet, side)));
        }
        if self.kind.has_port() {
            let Some(side) = sides.next() else { return false };
            if !packet.transport.has_ports() {
                return false;
            }
            let port = match side {
                Side::Source => packet.source_port,
                Side::Destination => packet.destination_port,
            };
            wanted.port = Some(((self.kind != SetType::BitmapPort).then_some(packet.transport), port));
        }
        if self.kind.has_second() {
            let Some(side) = sides.next() else { return false };
            wanted.second = Some(IpNet::from(address(packet, side)));
        }
        self.entries.contains(&wanted) || self.kind.takes_networks() && self.covers(&wanted)
    }

    fn covers(&self, wanted: &Entry) -> bool {
        let within = |outer: &Option<IpNet>, inner: &Option<IpNet>| match (outer, inner) {
            (Some(outer), Some(inner)) => outer.contains(inner),
            (None, None) => true,
            _ => false,
        };
        self.entries.iter().any(|entry| {
            entry.port == wanted.port
                && within(&entry.address, &wanted.address)
                && within(&entry.second, &wanted.second)
        })
    }
}

fn address(packet: &Packet, side: Side) -> IpAddr {
    match side {
        Side::Source => packet.source,
        Side::Destination => packet.destination,
    }
}

/// A line of `ipset restore` input that could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ipset restore, line {line}: {kind}")]
pub struct RestoreError {
    line: usize,
    kind: RestoreErrorKind,
}

impl RestoreError {
    /// Line number, from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// What is wrong.
    pub const fn kind(&self) -> &RestoreErrorKind {
        &self.kind
    }
}

/// What is wrong with a line of `ipset restore` input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreErrorKind {
    /// The first word is no command.
    #[error("unknown command `{0}`")]
    Command(SmolStr),
    /// A word is missing.
    #[error("missing {0}")]
    Missing(&'static str),
    /// A set type that is not covered.
    #[error("set type `{0}` is not supported")]
    Type(SmolStr),
    /// A set name that the kernel refuses.
    #[error("set name `{0}` is longer than 31 bytes")]
    Name(SmolStr),
    /// The set exists already.
    #[error("set `{0}` exists already")]
    Exists(SmolStr),
    /// The set does not exist.
    #[error("set `{0}` does not exist")]
    NoSet(SmolStr),
    /// An entry that does not fit the set.
    #[error("`{entry}` is no entry for set `{set}`")]
    Entry {
        /// The set.
        set: SmolStr,
        /// The entry as written.
        entry: SmolStr,
    },
    /// The entry is there already.
    #[error("entry `{entry}` is in set `{set}` already")]
    EntryExists {
        /// The set.
        set: SmolStr,
        /// The entry as written.
        entry: SmolStr,
    },
    /// The entry to be deleted is not there.
    #[error("entry `{entry}` is not in set `{set}`")]
    NoEntry {
        /// The set.
        set: SmolStr,
        /// The entry as written.
        entry: SmolStr,
    },
}

/// Whether duplicates are errors, as the global option `-exist` decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDuplicate {
    /// Creating or adding what exists, or deleting what does not, ends the restore.
    #[default]
    Refuse,
    /// `ipset -exist restore`: it is passed over.
    Ignore,
}

/// Carries out the lines of `ipset restore` input (or of `ipset save` output) on `sets`.
///
/// As the tool does, it stops at the first error and keeps what came before it.
///
/// # Errors
/// The first line that cannot be carried out.
pub fn restore(
    text: &str,
    sets: &mut BTreeMap<SmolStr, IpSet>,
    duplicates: OnDuplicate,
) -> Result<(), RestoreError> {
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        command(line, sets, duplicates).map_err(|kind| RestoreError { line: index + 1, kind })?;
    }
    Ok(())
}

fn command(
    line: &str,
    sets: &mut BTreeMap<SmolStr, IpSet>,
    duplicates: OnDuplicate,
) -> Result<(), RestoreErrorKind> {
    let mut words = line.split_ascii_whitespace().filter(|word| !matches!(*word, "-exist" | "-!"));
    let verb = words.next().ok_or(RestoreErrorKind::Missing("command"))?;
    match verb {
        "create" | "-N" | "n" => create(&mut words, sets, duplicates),
        "add" | "-A" | "a" | "del" | "-D" | "d" => {
            let (name, set) = existing(&mut words, sets)?;
            let text = words.next().ok_or(RestoreErrorKind::Missing("entry"))?;
            let entry = Entry::parse(text, set.kind)
                .ok_or_else(|| RestoreErrorKind::Entry { set: name.clone(), entry: text.into() })?;
            let adding = matches!(verb, "add" | "-A" | "a");
            let changed = if adding { set.entries.insert(entry) } else { set.entries.remove(&entry) };
            match (changed, duplicates, adding) {
                (true, ..) | (_, OnDuplicate::Ignore, _) => Ok(()),
                (.., true) => Err(RestoreErrorKind::EntryExists { set: name, entry: text.into() }),
                (.., false) => Err(RestoreErrorKind::NoEntry { set: name, entry: text.into() }),
            }
        }
        "flush" | "-F" | "f" => match words.next() {
            None => {
                sets.values_mut().for_each(|set| set.entries.clear());
                Ok(())
            }
            Some(name) => {
                sets.get_mut(name).ok_or_else(|| RestoreErrorKind::NoSet(name.into()))?.entries.clear();
                Ok(())
            }
        },
        "destroy" | "-X" | "x" => match words.next() {
            None => {
                sets.clear();
                Ok(())
            }
            Some(name) => sets.remove(name).map(drop).ok_or_else(|| RestoreErrorKind::NoSet(name.into())),
        },
        "COMMIT" | "quit" => Ok(()),
        other => Err(RestoreErrorKind::Command(other.into())),
    }
}

fn existing<'a, 's>(
    words: &mut impl Iterator<Item = &'a str>,
    sets: &'s mut BTreeMap<SmolStr, IpSet>,
) -> Result<(SmolStr, &'s mut IpSet), RestoreErrorKind> {
    let name = words.next().ok_or(RestoreErrorKind::Missing("set name"))?;
    let set = sets.get_mut(name).ok_or_else(|| RestoreErrorKind::NoSet(name.into()))?;
    Ok((name.into(), set))
}

fn create<'a>(
    words: &mut impl Iterator<Item = &'a str>,
    sets: &mut BTreeMap<SmolStr, IpSet>,
    duplicates: OnDuplicate,
) -> Result<(), RestoreErrorKind> {
    let name: SmolStr = words.next().ok_or(RestoreErrorKind::Missing("set name"))?.into();
    if name.len() > MAX_NAME {
        return Err(RestoreErrorKind::Name(name));
    }
    let kind = words.next().ok_or(RestoreErrorKind::Missing("set type"))?;
    let kind = SetType::parse(kind).ok_or_else(|| RestoreErrorKind::Type(kind.into()))?;
    let mut family = Family::V4;
    let mut options: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "family" => {
                family = match words.next().ok_or(RestoreErrorKind::Missing("family"))? {
                    "inet6" => Family::V6,
                    _ => Family::V4,
                }
            }
            // Added by newer versions on their own; the second is random.
            "bucketsize" | "initval" => {
                words.next();
            }
            other => options.push(other),
        }
    }
    // Ports have no family.
    let family = if kind == SetType::BitmapPort { Family::V4 } else { family };
    let mut set = IpSet::new(kind, family);
    if !options.is_empty() {
        set.options = options.join(" ").into();
    }
    match (sets.contains_key(&name), duplicates) {
        (true, OnDuplicate::Refuse) => Err(RestoreErrorKind::Exists(name)),
        (true, OnDuplicate::Ignore) => Ok(()),
        (false, _) => {
            sets.insert(name, set);
            Ok(())
        }
    }
}

/// Writes sets as `ipset save` does, in order of name and entry.
pub fn save(sets: &BTreeMap<SmolStr, IpSet>) -> String {
    use fmt::Write;
    let mut text = String::new();
    for (name, set) in sets {
        let family = match (set.kind, set.family) {
            (SetType::BitmapPort, _) => "",
            (_, Family::V4) => " family inet",
            (_, Family::V6) => " family inet6",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "create {name} {}{family} {}", set.kind.name(), set.options);
        for entry in &set.entries {
            let _ = writeln!(text, "add {name} {entry}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const SAVED: &str = "create KUBE-6-CLUSTER-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536\n\
        add KUBE-6-CLUSTER-IP fd00::1,tcp:443\n\
        create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536\n\
        add KUBE-CLUSTER-IP 10.96.0.1,tcp:443\n\
        add KUBE-CLUSTER-IP 10.96.0.10,udp:53\n\
        create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536\n\
        add KUBE-LOOP-BACK 10.244.0.5,tcp:8080,10.244.0.5\n\
        create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\n\
        add KUBE-NODE-PORT-TCP 30080\n\
        create RANGES hash:ip,port,net family inet hashsize 1024 maxelem 65536\n\
        add RANGES 10.96.0.1,tcp:443,10.0.0.0/8\n";

    fn sets() -> BTreeMap<SmolStr, IpSet> {
        let mut sets = BTreeMap::new();
        restore(SAVED, &mut sets, OnDuplicate::Refuse).unwrap();
        sets
    }

    #[test]
    fn text_comes_back_as_it_was() {
        assert_eq!(save(&sets()), SAVED);
        let noisy = SAVED.replace("65536\n", "65536 bucketsize 12 initval 0x7e0b1f4d\n");
        let mut again = BTreeMap::new();
        restore(&noisy, &mut again, OnDuplicate::Refuse).unwrap();
        assert_eq!(again, sets());
    }

    #[test]
    fn packets_are_found_by_the_named_sides() {
        let sets = sets();
        let packet = Packet::tcp("10.1.2.3:5000".parse().unwrap(), "10.96.0.1:443".parse().unwrap());
        use Side::{Destination as D, Source as S};
        assert!(sets["KUBE-CLUSTER-IP"].contains(&packet, &[D, D]));
        assert!(!sets["KUBE-CLUSTER-IP"].contains(&packet, &[S, D]));
        assert!(!sets["KUBE-CLUSTER-IP"].contains(&packet, &[D]));
        assert!(sets["RANGES"].contains(&packet, &[D, D, S]));
        let outside = Packet::tcp("11.1.2.3:5000".parse().unwrap(), "10.96.0.1:443".parse().unwrap());
        assert!(!sets["RANGES"].contains(&outside, &[D, D, S]));
        let udp = Packet::udp("10.1.2.3:5000".parse().unwrap(), "10.96.0.1:443".parse().unwrap());
        assert!(!sets["KUBE-CLUSTER-IP"].contains(&udp, &[D, D]));
        let port = Packet::udp("10.1.2.3:5000".parse().unwrap(), "10.96.0.1:30080".parse().unwrap());
        assert!(sets["KUBE-NODE-PORT-TCP"].contains(&port, &[D]), "a bitmap of ports knows no protocol");
    }

    #[test]
    fn errors_name_the_line() {
        let mut sets = sets();
        let fail = |sets: &mut _, text: &str| restore(text, sets, OnDuplicate::Refuse).unwrap_err();
        let error = fail(&mut sets, "# fine\n\nadd KUBE-CLUSTER-IP 10.96.0.1,tcp:443");
        assert_eq!(error.line(), 3);
        assert_eq!(
            error.to_string(),
            "ipset restore, line 3: entry `10.96.0.1,tcp:443` is in set `KUBE-CLUSTER-IP` already"
        );
        assert!(matches!(fail(&mut sets, "add NONE 1").kind(), RestoreErrorKind::NoSet(_)));
        assert!(matches!(fail(&mut sets, "add KUBE-CLUSTER-IP x").kind(), RestoreErrorKind::Entry { .. }));
        assert!(matches!(fail(&mut sets, "create A list:set").kind(), RestoreErrorKind::Type(_)));
        assert!(matches!(
            fail(&mut sets, "del KUBE-NODE-PORT-TCP 1").kind(),
            RestoreErrorKind::NoEntry { .. }
        ));
        assert!(restore("del KUBE-NODE-PORT-TCP 1", &mut sets, OnDuplicate::Ignore).is_ok());
    }
}
