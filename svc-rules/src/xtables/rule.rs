//! Words into a rule: options are given to the module they belong to, whatever their order, as iptables does.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smol_str::SmolStr;

use super::model::{
    AddrTypeTest, AddressTypes, Counters, CtStates, EXTENSIONS, IpvsTest, MarkTest, Match, Net, PortDraw,
    PortModule, PortRange, PortTest, Recent, RecentAction, Rule, Sense, SetTest, StateModule, Target, Test,
};
use super::parse::{RestoreErrorKind, named, value};
use super::print::{quote, quote_inner};
use super::value::{parse_marks, parse_net, parse_ports, parse_probability, parse_sides, parse_socket};
use super::words::{Word, Words};
use crate::ipset::Side;
use crate::outcome::RejectWith;
use crate::packet::{Family, Transport};

type Result<T> = core::result::Result<T, RestoreErrorKind>;

/// Reads the words after the chain's name.
pub(super) fn parse(words: Words<'_>, family: Family, counters: Counters) -> Result<Rule> {
    let mut parser = Parser {
        words,
        family,
        rule: Rule { counters, ..Rule::default() },
        jump: None,
        arguments: Vec::new(),
    };
    while let Some(word) = parser.words.next() {
        parser.word(&word)?;
    }
    parser.finish()
}

struct Parser<'a> {
    words: Words<'a>,
    family: Family,
    rule: Rule,
    /// The word after `-j`.
    jump: Option<Cow<'a, str>>,
    /// Words that belong to the target.
    arguments: Vec<Word<'a>>,
}

impl<'a> Parser<'a> {
    fn word(&mut self, word: &Word<'a>) -> Result<()> {
        if word.quoted {
            return self.stray(word);
        }
        if word.text == "!" {
            let next = self.words.next().ok_or_else(|| RestoreErrorKind::Missing("!".into()))?;
            return self.option(&next, Sense::Not);
        }
        self.option(word, Sense::Is)
    }

    fn option(&mut self, word: &Word<'a>, sense: Sense) -> Result<()> {
        let name: &str = &word.text;
        // As bytes, which compile to a decision tree instead of one comparison after another.
        match name.as_bytes() {
            b"-m" | b"--match" => {
                let module = self.plain_value(name)?;
                self.open(&module);
                Ok(())
            }
            b"-j" | b"--jump" => {
                let target = self.plain_value(name)?;
                once(name, self.jump.replace(target).is_some() || self.rule.target.is_some())
            }
            b"-g" | b"--goto" => {
                let chain = self.value(name)?;
                let again = self.rule.target.replace(Target::Goto(named(&chain)?)).is_some();
                once(name, again || self.jump.is_some())
            }
            b"-s" | b"--source" | b"--src" => {
                let net = self.net(name)?;
                once(name, replace_net(&mut self.rule.source, sense, net))
            }
            b"-d" | b"--destination" | b"--dst" => {
                let net = self.net(name)?;
                once(name, replace_net(&mut self.rule.destination, sense, net))
            }
            b"-p" | b"--protocol" | b"--proto" => {
                let text = self.value(name)?;
                if text.eq_ignore_ascii_case("all") || &*text == "0" {
                    return Ok(());
                }
                let transport = Transport::parse(&text).ok_or_else(|| value(name, &text))?;
                once(name, self.rule.transport.replace(Test { sense, value: transport }).is_some())
            }
            b"-i" | b"--in-interface" => {
                let interface = self.plain_value(name)?;
                let test = Test { sense, value: interface.into() };
                once(name, self.rule.in_interface.replace(test).is_some())
            }
            b"-o" | b"--out-interface" => {
                let interface = self.plain_value(name)?;
                let test = Test { sense, value: interface.into() };
                once(name, self.rule.out_interface.replace(test).is_some())
            }
            b"-f" | b"--fragment" if self.family == Family::V4 => {
                once(name, self.rule.fragment.replace(sense).is_some())
            }
            b"-c" | b"--set-counters" => {
                let packets = self.number(name)?;
                let bytes = self.number(name)?;
                self.rule.counters = Counters { packets, bytes };
                Ok(())
            }
            _ if self.jump.is_some() && !name.starts_with('-') => self.stray(word),
            _ => self.module_option(word, sense),
        }
    }

    /// A word that is no option: part of a module or target that is not understood, or an error.
    fn stray(&mut self, word: &Word<'a>) -> Result<()> {
        if self.jump.is_some() {
            self.arguments.push(word.clone());
            return Ok(());
        }
        match self.rule.matches.last_mut() {
            Some(Match::Opaque(text)) => {
                extend(text, Sense::Is, word);
                Ok(())
            }
            _ => Err(RestoreErrorKind::Option(word.text.as_ref().into())),
        }
    }

    fn value(&mut self, option: &str) -> Result<Cow<'a, str>> {
        self.words.next().map(|word| word.text).ok_or_else(|| RestoreErrorKind::Missing(option.into()))
    }

    /// A value that is written without quotes, so it must be one word by itself.
    fn plain_value(&mut self, option: &str) -> Result<Cow<'a, str>> {
        let text = self.value(option)?;
        let parts = |c: char| c.is_ascii_control() || matches!(c, ' ' | '"');
        if text.is_empty() || text.contains(parts) { Err(value(option, &text)) } else { Ok(text) }
    }

    fn number(&mut self, option: &str) -> Result<u64> {
        let text = self.value(option)?;
        text.parse().map_err(|_| value(option, &text))
    }

    fn net(&mut self, option: &str) -> Result<Net> {
        let text = self.value(option)?;
        parse_net(&text)
            .filter(|net| Family::of(net.address()) == self.family)
            .ok_or_else(|| value(option, &text))
    }

    /// Loads a module.
    fn open(&mut self, module: &str) {
        push(
            &mut self.rule.matches,
            match module.as_bytes() {
                b"comment" => Match::Comment(SmolStr::default()),
                b"tcp" => ports(PortModule::Tcp),
                b"udp" => ports(PortModule::Udp),
                b"sctp" => ports(PortModule::Sctp),
                b"conntrack" => Match::State(StateModule::Conntrack, unset()),
                b"state" => Match::State(StateModule::State, unset()),
                b"addrtype" => Match::AddrType(AddrTypeTest::default()),
                b"recent" => Match::Recent(Box::new(Recent {
                    action: Test { sense: Sense::Is, value: RecentAction::Check },
                    seconds: 0,
                    reap: false,
                    hitcount: 0,
                    rttl: false,
                    list: SmolStr::new_static("DEFAULT"),
                    mask: full_mask(self.family),
                    side: Side::Source,
                })),
                b"ipvs" => Match::Ipvs(Box::default()),
                // Modules with one option are made when it comes; until then they stand in their own words.
                _ => Match::Opaque(module.into()),
            },
        );
    }

    /// Gives an option to the module or target that takes it.
    fn module_option(&mut self, word: &Word<'a>, sense: Sense) -> Result<()> {
        let name: &str = &word.text;
        if self.jump.is_some() && target_takes(self.jump.as_deref().unwrap_or_default(), name) {
            if sense == Sense::Not {
                self.arguments.push(Word { text: Cow::Borrowed("!"), quoted: false });
            }
            self.arguments.push(word.clone());
            return Ok(());
        }
        match name.as_bytes() {
            b"--dport" | b"--destination-port" => {
                let range = self.ports_value(name)?;
                let test = self.port_test(name)?;
                once(name, test.destination.replace(Test { sense, value: range }).is_some())
            }
            b"--sport" | b"--source-port" => {
                let range = self.ports_value(name)?;
                let test = self.port_test(name)?;
                once(name, test.source.replace(Test { sense, value: range }).is_some())
            }
            _ => self.last_match_option(word, sense),
        }
    }

    fn ports_value(&mut self, option: &str) -> Result<PortRange> {
        let text = self.value(option)?;
        parse_ports(&text).ok_or_else(|| value(option, &text))
    }

    /// The loaded module of ports, or the one that `-p` loads by itself.
    fn port_test(&mut self, option: &str) -> Result<&mut PortTest> {
        let loaded = self.rule.matches.iter().rposition(|m| matches!(m, Match::Ports(_)));
        if loaded.is_none() {
            let module = match self.rule.transport {
                Some(Test { value: Transport::TCP, .. }) => PortModule::Tcp,
                Some(Test { value: Transport::UDP, .. }) => PortModule::Udp,
                Some(Test { value: Transport::SCTP, .. }) => PortModule::Sctp,
                _ => return Err(RestoreErrorKind::Option(option.into())),
            };
            push(&mut self.rule.matches, ports(module));
        }
        let at = loaded.unwrap_or(self.rule.matches.len().saturating_sub(1));
        match self.rule.matches.get_mut(at) {
            Some(Match::Ports(test)) => Ok(test),
            _ => Err(RestoreErrorKind::Option(option.into())),
        }
    }

    fn last_match_option(&mut self, word: &Word<'a>, sense: Sense) -> Result<()> {
        let name: &str = &word.text;
        if let Some(module) = self.implicit_module(name) {
            push(&mut self.rule.matches, Match::Opaque(module));
        }
        let Some(mut last) = self.rule.matches.pop() else {
            return Err(RestoreErrorKind::Option(name.into()));
        };
        let taken = match &mut last {
            Match::Comment(text) if name == "--comment" => {
                *text = self.value(name)?.into();
                true
            }
            Match::State(StateModule::Conntrack, test) if name == "--ctstate" => {
                *test = Test { sense, value: self.states(name)? };
                true
            }
            Match::State(StateModule::State, test) if name == "--state" => {
                *test = Test { sense, value: self.states(name)? };
                true
            }
            Match::AddrType(test) if matches!(name, "--src-type" | "--dst-type") => {
                let types = Test { sense, value: self.address_types(name)? };
                let side = if name == "--src-type" { &mut test.source } else { &mut test.destination };
                once(name, side.replace(types).is_some())?;
                true
            }
            Match::Recent(recent) => self.recent_option(recent, name, sense)?,
            Match::Ipvs(test) => self.ipvs_option(test, name, sense)?,
            Match::Opaque(module) => match self.single_option(module, name, sense)? {
                Some(made) => {
                    last = made;
                    true
                }
                None => false,
            },
            _ => false,
        };
        if !taken {
            last = Match::Opaque(opaque(&last, sense, word));
        }
        push(&mut self.rule.matches, last);
        Ok(())
    }

    /// The module that `-p` loads when an option comes that no loaded module takes.
    fn implicit_module(&self, option: &str) -> Option<SmolStr> {
        let transport = self.rule.transport.as_ref()?.value;
        let prefix = match transport {
            Transport::TCP => "--tcp-",
            Transport::SCTP => "--chunk-",
            Transport::ICMP => "--icmp-",
            Transport::ICMPV6 => "--icmpv6-",
            _ => return None,
        };
        let syn = transport == Transport::TCP && option == "--syn";
        if !syn && !option.starts_with(prefix) {
            return None;
        }
        let module = match transport {
            Transport::ICMPV6 => "icmp6",
            other => other.name()?,
        };
        let takes = |m: &Match| match m {
            Match::Opaque(text) => text.split(' ').next() == Some(module),
            Match::Ports(test) => test.module.name() == module,
            _ => false,
        };
        (!self.rule.matches.last().is_some_and(takes)).then(|| module.into())
    }

    fn states(&mut self, option: &str) -> Result<CtStates> {
        let text = self.value(option)?;
        let mut states = CtStates::default();
        for part in text.split(',') {
            let known = CtStates::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(part));
            states = states.union(known.ok_or_else(|| value(option, &text))?.0);
        }
        Ok(states)
    }

    fn address_types(&mut self, option: &str) -> Result<AddressTypes> {
        let text = self.value(option)?;
        let mut types = AddressTypes::default();
        for part in text.split(',') {
            let bit = AddressTypes::NAMES.iter().position(|name| name.eq_ignore_ascii_case(part));
            types.0 |= 1 << bit.ok_or_else(|| value(option, &text))?;
        }
        Ok(types)
    }

    fn recent_option(&mut self, recent: &mut Recent, name: &str, sense: Sense) -> Result<bool> {
        let action = match name {
            "--set" => RecentAction::Set,
            "--rcheck" => RecentAction::Check,
            "--update" => RecentAction::Update,
            "--remove" => RecentAction::Remove,
            "--seconds" => {
                recent.seconds = self.small_number(name)?;
                return Ok(true);
            }
            "--hitcount" => {
                recent.hitcount = self.small_number(name)?;
                return Ok(true);
            }
            "--reap" => {
                recent.reap = true;
                return Ok(true);
            }
            "--rttl" => {
                recent.rttl = true;
                return Ok(true);
            }
            "--name" => {
                recent.list = self.plain_value(name)?.into();
                return Ok(true);
            }
            "--mask" => {
                let text = self.value(name)?;
                recent.mask = text.parse().map_err(|_| value(name, &text))?;
                return Ok(true);
            }
            "--rsource" | "--rdest" => {
                recent.side = if name == "--rsource" { Side::Source } else { Side::Destination };
                return Ok(true);
            }
            _ => return Ok(false),
        };
        recent.action = Test { sense, value: action };
        Ok(true)
    }

    fn small_number(&mut self, option: &str) -> Result<u32> {
        let text = self.value(option)?;
        text.parse().map_err(|_| value(option, &text))
    }

    fn ipvs_option(&mut self, test: &mut IpvsTest, name: &str, sense: Sense) -> Result<bool> {
        match name {
            "--vaddr" => {
                let net = self.net(name)?;
                test.address = Some(Test { sense, value: net });
            }
            "--vproto" => {
                let text = self.value(name)?;
                let transport = Transport::parse(&text).ok_or_else(|| value(name, &text))?;
                test.transport = Some(Test { sense, value: transport });
            }
            "--vport" => {
                let text = self.value(name)?;
                let port = text.parse().map_err(|_| value(name, &text))?;
                test.port = Some(Test { sense, value: port });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Makes the match of a module that has one option; `None` if this is not it.
    fn single_option(&mut self, module: &str, name: &str, sense: Sense) -> Result<Option<Match>> {
        Ok(Some(match (module, name) {
            ("mark", "--mark") => {
                let text = self.value(name)?;
                let (value, mask) = parse_marks(&text).ok_or_else(|| value(name, &text))?;
                Match::Mark(Test { sense, value: MarkTest { value, mask: mask.unwrap_or(u32::MAX) } })
            }
            ("statistic", "--mode") => {
                let mut ahead = self.words.clone();
                if ahead.next().is_none_or(|word| word.text != "random") {
                    return Ok(None);
                }
                let mut option = ahead.next();
                let negated = option.as_ref().is_some_and(|word| word.text == "!");
                if negated {
                    option = ahead.next();
                }
                if option.is_none_or(|word| word.text != "--probability") {
                    return Ok(None);
                }
                self.words = ahead;
                let text = self.value("--probability")?;
                let threshold = parse_probability(&text).ok_or_else(|| value("--probability", &text))?;
                let sense = if negated { Sense::Not } else { Sense::Is };
                Match::Random(Test { sense, value: threshold })
            }
            ("set", "--match-set") => {
                let set = self.plain_value(name)?.into();
                let text = self.value(name)?;
                let sides = parse_sides(&text).ok_or_else(|| value(name, &text))?;
                Match::Set(Box::new(Test { sense, value: SetTest { name: set, sides } }))
            }
            ("physdev", "--physdev-is-in") => Match::PhysdevIsIn(sense),
            ("nfacct", "--nfacct-name") => Match::Nfacct(self.plain_value(name)?.into()),
            _ => return Ok(None),
        }))
    }

    fn finish(mut self) -> Result<Rule> {
        if let Some(name) = self.jump.take() {
            self.rule.target = Some(target(&name, &self.arguments, self.family)?);
        }
        Ok(self.rule)
    }
}

/// Appends to a list that seldom has more than two entries: room for two is enough at first, where `Vec` makes it for
/// four. Rulesets have a list of matches for every rule, and a list of rules for every endpoint.
pub(super) fn push<T>(list: &mut Vec<T>, item: T) {
    if list.capacity() == 0 {
        list.reserve_exact(2);
    }
    list.push(item);
}

fn once(option: &str, again: bool) -> Result<()> {
    if again { Err(RestoreErrorKind::Twice(option.into())) } else { Ok(()) }
}

/// Sets an address test; one that any address passes is none at all, as in the kernel's form. True if one was set.
fn replace_net(place: &mut Option<Test<Net>>, sense: Sense, net: Net) -> bool {
    if sense == Sense::Is && net.prefix() == Some(0) {
        return false;
    }
    place.replace(Test { sense, value: net }).is_some()
}

const fn ports(module: PortModule) -> Match {
    Match::Ports(PortTest { module, source: None, destination: None })
}

fn unset() -> Test<CtStates> {
    Test { sense: Sense::Is, value: CtStates::default() }
}

const fn full_mask(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::BROADCAST),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    }
}

/// A match in its words, with one more option.
fn opaque(so_far: &Match, sense: Sense, word: &Word<'_>) -> SmolStr {
    let mut text = match so_far {
        Match::Opaque(text) => text.clone(),
        // A module without any option yet has no words but its name.
        Match::State(module, test) if *test == unset() => SmolStr::new_static(match module {
            StateModule::Conntrack => "conntrack",
            StateModule::State => "state",
        }),
        other => {
            let mut text = String::new();
            other.write(&mut text);
            text.into()
        }
    };
    extend(&mut text, sense, word);
    text
}

fn extend(text: &mut SmolStr, sense: Sense, word: &Word<'_>) {
    let mut longer = String::from(text.as_str());
    if sense == Sense::Not {
        longer.push_str(" !");
    }
    longer.push(' ');
    push_word(word, &mut longer);
    *text = longer.into();
}

/// A word as it has to be written. What was in quotes must not turn into an option without them.
fn push_word(word: &Word<'_>, out: &mut String) {
    if !word.quoted {
        out.push_str(&word.text);
    } else if word.text.starts_with('-') {
        out.push('"');
        quote_inner(&word.text, out);
        out.push('"');
    } else {
        quote(&word.text, out);
    }
}

/// Whether `-j` with this word leads to a target of iptables' own rather than to a chain.
fn is_extension(name: &str) -> bool {
    EXTENSIONS.binary_search(&name).is_ok()
}

/// Whether the target takes this option, so that it is not a match's.
fn target_takes(target: &str, option: &str) -> bool {
    match target {
        "ACCEPT" | "DROP" | "RETURN" => false,
        "REJECT" => option == "--reject-with",
        "DNAT" => matches!(option, "--to-destination" | "--random" | "--persistent"),
        "SNAT" => matches!(option, "--to-source" | "--random" | "--random-fully" | "--persistent"),
        "MASQUERADE" => matches!(option, "--to-ports" | "--random" | "--random-fully"),
        "MARK" => option.ends_with("mark") && option != "--mark",
        other => is_extension(other),
    }
}

fn target(name: &str, arguments: &[Word<'_>], family: Family) -> Result<Target> {
    let text = |index: usize| arguments.get(index).map(|word| word.text.as_ref());
    let made = match (name, arguments.len()) {
        ("ACCEPT", 0) => Some(Target::Accept),
        ("DROP", 0) => Some(Target::Drop),
        ("RETURN", 0) => Some(Target::Return),
        ("REJECT", 0) => Some(Target::Reject(RejectWith::PortUnreachable)),
        ("REJECT", 2) => {
            let with = text(1).unwrap_or_default();
            Some(Target::Reject(RejectWith::parse(with, family).ok_or_else(|| value("--reject-with", with))?))
        }
        ("MARK", 2) => {
            let (option, marks) = (text(0).unwrap_or_default(), text(1).unwrap_or_default());
            let (mark, mask) = parse_marks(marks).ok_or_else(|| value(option, marks))?;
            match (option, mask) {
                ("--set-xmark", mask) => Some(Target::Mark { value: mark, mask: mask.unwrap_or(u32::MAX) }),
                // Clears the mask's bits and the value's, then sets the value's.
                ("--set-mark", mask) => {
                    Some(Target::Mark { value: mark, mask: mark | mask.unwrap_or(u32::MAX) })
                }
                ("--or-mark", None) => Some(Target::Mark { value: mark, mask: mark }),
                ("--and-mark", None) => Some(Target::Mark { value: 0, mask: !mark }),
                ("--xor-mark", None) => Some(Target::Mark { value: mark, mask: 0 }),
                _ => return Err(RestoreErrorKind::Option(option.into())),
            }
        }
        ("DNAT", 2) if text(0) == Some("--to-destination") => {
            let to = text(1).unwrap_or_default();
            parse_socket(to, family)
        }
        ("SNAT", 2) if text(0) == Some("--to-source") => {
            let to = text(1).unwrap_or_default();
            to.parse().ok().filter(|address| Family::of(*address) == family).map(Target::Snat)
        }
        ("MASQUERADE", 0) => Some(Target::Masquerade(PortDraw::Keep)),
        ("MASQUERADE", 1) if text(0) == Some("--random") => Some(Target::Masquerade(PortDraw::Random)),
        ("MASQUERADE", 1) if text(0) == Some("--random-fully") => {
            Some(Target::Masquerade(PortDraw::FullyRandom))
        }
        _ => None,
    };
    if let Some(made) = made {
        return Ok(made);
    }
    if !is_extension(name) {
        return match text(0) {
            None => named(name).map(Target::Jump),
            Some(argument) => Err(RestoreErrorKind::Option(argument.into())),
        };
    }
    let mut words = String::from(name);
    for word in arguments {
        words.push(' ');
        push_word(word, &mut words);
    }
    Ok(Target::Opaque(words.into()))
}
