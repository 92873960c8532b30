//! The commands of `ipvsadm -R`.

use alloc::vec::Vec;
use core::iter::Peekable;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::str::SplitAsciiWhitespace;

use smol_str::SmolStr;

use super::model::{Method, Persistence, RealServer, VirtualAddress, VirtualServer, VirtualServers};
use crate::packet::{Family, Transport};

/// A line that could not be read or carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
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

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreErrorKind {
    /// A word that cannot stand here.
    #[error("`{0}` cannot stand here")]
    Unexpected(SmolStr),
    /// A word is missing.
    #[error("`{0}` needs a value")]
    Missing(SmolStr),
    /// A value that the option does not take.
    #[error("`{value}` is no value for `{option}`")]
    Value {
        /// The option.
        option: SmolStr,
        /// What is written.
        value: SmolStr,
    },
    /// No virtual server, or no real server, is named.
    #[error("no service or no server is named")]
    NoAddress,
    /// The virtual server is there already.
    #[error("service `{0}` exists already")]
    Exists(SmolStr),
    /// The virtual server is not there.
    #[error("service `{0}` does not exist")]
    NoService(SmolStr),
    /// The real server is there already.
    #[error("destination `{0}` exists already")]
    ServerExists(SocketAddr),
    /// The real server is not there.
    #[error("destination `{0}` does not exist")]
    NoServer(SocketAddr),
}

use RestoreErrorKind as Kind;
type Result<T> = core::result::Result<T, Kind>;

impl VirtualServers {
    /// Carries out commands as `ipvsadm -R` does, one by one.
    ///
    /// # Errors
    /// The first line that cannot be read or that the kernel would refuse; what stands before it has taken effect.
    /// (`ipvsadm` itself goes on after what the kernel refuses.)
    pub fn restore(&mut self, text: &str) -> core::result::Result<(), RestoreError> {
        for (index, line) in text.lines().enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.command(line).map_err(|kind| RestoreError { line: index + 1, kind })?;
        }
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_ascii_whitespace().peekable();
        let verb = words.next().unwrap_or_default();
        if matches!(verb, "-C" | "--clear") {
            self.services.clear();
            return Ok(());
        }
        if matches!(verb, "-Z" | "--zero") {
            return Ok(());
        }
        let known = ["-A", "-E", "-D", "-a", "-e", "-d"];
        let long = [
            "--add-service",
            "--edit-service",
            "--delete-service",
            "--add-server",
            "--edit-server",
            "--delete-server",
        ];
        let verb = known
            .into_iter()
            .zip(long)
            .find(|(short, long)| *short == verb || *long == verb)
            .map(|(short, _)| short)
            .ok_or_else(|| Kind::Unexpected(verb.into()))?;
        let mut options = Options::read(&mut words)?;
        let address = options.address()?;
        options.settle(address.family())?;
        let name = || SmolStr::from(alloc::format!("{address}"));
        match verb {
            "-A" if self.services.contains_key(&address) => return Err(Kind::Exists(name())),
            "-A" => drop(self.services.insert(address, options.service)),
            "-D" => drop(self.services.remove(&address).ok_or_else(|| Kind::NoService(name()))?),
            _ => {
                let service = self.services.get_mut(&address).ok_or_else(|| Kind::NoService(name()))?;
                if verb == "-E" {
                    // What is not named is reset, servers stay.
                    let servers = core::mem::take(&mut service.servers);
                    *service = VirtualServer { servers, ..options.service };
                    return Ok(());
                }
                let server = options.server_at(&address)?;
                match (verb, service.servers.contains_key(&server)) {
                    ("-a", true) => return Err(Kind::ServerExists(server)),
                    ("-e" | "-d", false) => return Err(Kind::NoServer(server)),
                    ("-d", true) => drop(service.servers.remove(&server)),
                    _ => drop(service.servers.insert(server, options.server)),
                }
            }
        }
        Ok(())
    }
}

/// The options of one command.
#[derive(Default)]
struct Options<'a> {
    transport: Option<Transport>,
    socket: Option<&'a str>,
    mark: Option<u32>,
    v6: bool,
    service: VirtualServer,
    real: Option<&'a str>,
    server: RealServer,
    mask: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn read(words: &mut Peekable<SplitAsciiWhitespace<'a>>) -> Result<Self> {
        let mut options = Self::default();
        let mut tunnel: Vec<&str> = Vec::new();
        while let Some(word) = words.next() {
            let (word, mut inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") && !value.is_empty() => (name, Some(value)),
                _ => (word, None),
            };
            let mut value =
                || inline.take().or_else(|| words.next()).ok_or_else(|| Kind::Missing(word.into()));
            match word {
                "-t" | "--tcp-service" => options.named(Transport::TCP, value()?),
                "-u" | "--udp-service" => options.named(Transport::UDP, value()?),
                "--sctp-service" => options.named(Transport::SCTP, value()?),
                "-f" | "--fwmark-service" => options.mark = Some(number(word, value()?)?),
                "-6" | "--ipv6" => options.v6 = true,
                "-s" | "--scheduler" => options.service.scheduler = value()?.into(),
                "--pe" => options.service.engine = Some(value()?.into()),
                "-b" | "--sched-flags" => options.service.flags = Some(value()?.into()),
                "-o" | "--ops" => options.service.one_packet = true,
                "-M" | "--netmask" => options.mask = Some(value()?),
                "-p" | "--persistent" => {
                    let given = inline.take().or_else(|| words.next_if(|next| !next.starts_with('-')));
                    let seconds = match given {
                        Some(text) => number(word, text)?,
                        None => 360,
                    };
                    options.service.persistence = Some(Persistence { seconds, prefix: u8::MAX });
                }
                "-r" | "--real-server" => options.real = Some(value()?),
                "-w" | "--weight" => options.server.weight = number(word, value()?)?,
                "-x" | "--u-threshold" => options.server.upper = number(word, value()?)?,
                "-y" | "--l-threshold" => options.server.lower = number(word, value()?)?,
                "-m" | "--masquerading" => options.server.method = Method::Masquerade,
                "-g" | "--gatewaying" => options.server.method = Method::Route,
                "-i" | "--ipip" => options.server.method = Method::Tunnel(SmolStr::default()),
                "--tun-type" | "--tun-port" => {
                    let value = value()?;
                    tunnel.extend([word, value]);
                }
                "--tun-nocsum" | "--tun-csum" | "--tun-remcsum" => tunnel.push(word),
                "-n" | "--numeric" => {}
                other => return Err(Kind::Unexpected(other.into())),
            }
        }
        if let Method::Tunnel(words) = &mut options.server.method {
            *words = tunnel.join(" ").into();
        }
        Ok(options)
    }

    fn named(&mut self, transport: Transport, socket: &'a str) {
        self.transport = Some(transport);
        self.socket = Some(socket);
    }

    /// The mask of persistence, which depends on the service's family. Without persistence it is dropped.
    fn settle(&mut self, family: Family) -> Result<()> {
        if let Some(persistence) = &mut self.service.persistence {
            persistence.prefix = match self.mask {
                Some(text) => prefix(text).filter(|p| *p <= family.bits()).ok_or_else(|| bad("-M", text))?,
                None => family.bits(),
            };
        }
        Ok(())
    }

    /// The virtual server that is meant.
    fn address(&self) -> Result<VirtualAddress> {
        match (self.transport, self.socket, self.mark) {
            (Some(transport), Some(text), None) => {
                let (address, port) = socket(text).ok_or_else(|| bad("service", text))?;
                let port = port.ok_or_else(|| bad("service", text))?;
                Ok(VirtualAddress::Socket { transport, address, port })
            }
            (None, None, Some(mark)) => {
                Ok(VirtualAddress::Mark { mark, family: if self.v6 { Family::V6 } else { Family::V4 } })
            }
            _ => Err(Kind::NoAddress),
        }
    }

    /// The real server that is meant; without a port of its own it has the service's.
    fn server_at(&self, service: &VirtualAddress) -> Result<SocketAddr> {
        let text = self.real.ok_or(Kind::NoAddress)?;
        let (address, port) = socket(text).ok_or_else(|| bad("-r", text))?;
        let own = match service {
            VirtualAddress::Socket { port, .. } => *port,
            VirtualAddress::Mark { .. } => 0,
        };
        Ok(SocketAddr::new(address, port.unwrap_or(own)))
    }
}

fn bad(option: &str, value: &str) -> Kind {
    Kind::Value { option: option.into(), value: value.into() }
}

fn number(option: &str, text: &str) -> Result<u32> {
    text.parse().map_err(|_| bad(option, text))
}

fn socket(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some((socket.ip(), Some(socket.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|address| (address, None))
}

/// A mask in dots, or a prefix length.
fn prefix(text: &str) -> Option<u8> {
    match text.parse::<Ipv4Addr>() {
        Ok(mask) => {
            let bits = mask.to_bits();
            (bits.count_ones() == bits.leading_ones()).then(|| u8::try_from(bits.count_ones()).ok())?
        }
        Err(_) => text.parse().ok().filter(|prefix| *prefix <= 128),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const SAVED: &str = "-A -t 10.0.0.1:80 -s rr\n\
        -a -t 10.0.0.1:80 -r 10.1.0.2:80 -i -w 1 --tun-type ipip\n\
        -a -t 10.0.0.1:80 -r 10.1.0.3:8080 -m -w 3\n\
        -A -t 10.0.0.3:80 -s sh -p 600 -M 255.255.255.0 -b sh-fallback,sh-port\n\
        -A -u 10.0.0.6:53 -s rr -o\n\
        -A -u 10.0.0.7:5060 -s rr -p 60 --pe sip\n\
        -A --sctp-service 10.0.0.8:132 -s wlc\n\
        -A -t [2001:db8::1]:443 -s lc\n\
        -a -t [2001:db8::1]:443 -r [2001:db8::9]:443 -g -w 1\n\
        -A -f 7 -s wlc\n\
        -a -f 7 -r 10.1.0.1:0 -m -w 1\n\
        -A -f 8 -6 -s wlc -p 120 -M 64\n";

    fn servers(text: &str) -> VirtualServers {
        let mut servers = VirtualServers::new();
        servers.restore(text).unwrap();
        servers
    }

    #[test]
    fn saved_text_comes_back_byte_for_byte() {
        assert_eq!(servers(SAVED).save(), SAVED);
    }

    #[test]
    fn long_names_and_edits_are_understood() {
        let text = "--add-service --tcp-service 10.0.0.1:80 --scheduler=mh --persistent\n\
            --add-server --tcp-service 10.0.0.1:80 --real-server 10.1.0.1 --masquerading --weight=3 --u-threshold=9\n\
            -a -t 10.0.0.1:80 -r 10.1.0.2:81 -m\n-e -t 10.0.0.1:80 -r 10.1.0.2:81\n";
        assert_eq!(
            servers(text).save(),
            "-A -t 10.0.0.1:80 -s mh -p 360\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 3\n\
             -a -t 10.0.0.1:80 -r 10.1.0.2:81 -g -w 1\n",
            "an edit resets what it does not name"
        );
        let text = alloc::format!("{text}-d -t 10.0.0.1:80 -r 10.1.0.1:80\n-E -t 10.0.0.1:80\n-C\n-A -f 1\n");
        assert_eq!(servers(&text).save(), "-A -f 1 -s wlc\n");
    }

    #[test]
    fn errors_say_what_is_wrong_in_which_line() {
        let fail = |line: &str| {
            let text = alloc::format!("-A -t 10.0.0.1:80 -s rr\n\n{line}\n");
            VirtualServers::new().restore(&text).unwrap_err().to_string()
        };
        assert_eq!(fail("-A -t 10.0.0.1:80"), "line 3: service `-t 10.0.0.1:80` exists already");
        assert_eq!(fail("-a -t 10.0.0.2:80 -r 1.1.1.1"), "line 3: service `-t 10.0.0.2:80` does not exist");
        assert_eq!(fail("-d -t 10.0.0.1:80 -r 1.1.1.1"), "line 3: destination `1.1.1.1:80` does not exist");
        assert_eq!(fail("-a -t 10.0.0.1:80 -r x"), "line 3: `x` is no value for `-r`");
        assert_eq!(fail("-A -t 10.0.0.1"), "line 3: `10.0.0.1` is no value for `service`");
        assert_eq!(fail("-A -s rr"), "line 3: no service or no server is named");
        assert_eq!(
            fail("-A -t 10.0.0.2:1 -p 5 -M 255.0.255.0"),
            "line 3: `255.0.255.0` is no value for `-M`"
        );
        assert_eq!(fail("-A -t"), "line 3: `-t` needs a value");
        assert_eq!(fail("# no"), "line 3: `#` cannot stand here");
        assert_eq!(fail("-A -t 10.0.0.2:1 --what"), "line 3: `--what` cannot stand here");
    }
}
