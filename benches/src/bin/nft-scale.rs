//! How long the kernel takes for both layouts of nftables mode, side by side, as `nft -f` loads them.
//!
//! Every table is loaded into a network namespace of its own, empty before, which is removed afterwards. Steps:
//! the whole table; one Service more; one endpoint in the place of another. Of the last two, the least of several times is
//! told: what is more is other work on the machine. For the whole table the processor time of nft and the kernel stands
//! beside the wall-clock time, for the same reason.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use svc_benches::uniform;
use svc_endpoints::view::SliceCache;
use svc_model::IpFamily;
use svc_rules::nftables::{Layout, Proxy, Scope};
use svc_rules::{LocalDetector, ProxyConfig};

const USAGE: &str = "nft-scale [-o json] [--bound SECONDS] [--chunk OPERATIONS] [--layout flat|reference] [SERVICES[xENDPOINTS]]..

Loads tables of so many Services, with so many endpoints each (10 unless told), into the kernel. Needs root, ip and nft.
What takes longer than the bound (60 seconds unless told) is given up. With --chunk, a whole table is loaded in several
transactions of about so many operations.";

/// How often the small steps are measured.
const ROUNDS: usize = 9;

struct Options {
    json: bool,
    bound: Duration,
    chunk: usize,
    layouts: Vec<Layout>,
    sizes: Vec<(usize, usize)>,
}

fn options() -> Option<Options> {
    let mut options = Options {
        json: false,
        bound: Duration::from_secs(60),
        chunk: usize::MAX,
        layouts: vec![Layout::Flat, Layout::Reference],
        sizes: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-o" => options.json = arguments.next()? == "json",
            "--bound" => options.bound = Duration::from_secs(arguments.next()?.parse().ok()?),
            "--chunk" => options.chunk = arguments.next()?.parse().ok()?,
            "--layout" => {
                options.layouts = match arguments.next()?.as_str() {
                    "flat" => vec![Layout::Flat],
                    "reference" => vec![Layout::Reference],
                    _ => return None,
                }
            }
            size => {
                let (services, endpoints) = size.split_once('x').unwrap_or((size, "10"));
                options.sizes.push((services.parse().ok()?, endpoints.parse().ok()?));
            }
        }
    }
    if options.sizes.is_empty() {
        options.sizes = vec![(1_000, 10), (5_000, 10), (5_000, 50), (20_000, 10), (45_000, 10)];
    }
    Some(options)
}

/// A network namespace, removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Self, String> {
        let name = format!("svc-scale-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        match made {
            Ok(status) if status.success() => Ok(Self(name)),
            _ => Err("network namespaces cannot be made: is this root, and `ip` there?".into()),
        }
    }

    /// Feeds a text to nft, and measures it; `None` if it takes too long.
    fn load(&self, text: &str, bound: Duration) -> Result<Option<Time>, String> {
        let before = children();
        let start = Instant::now();
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.0, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stdin = child.stdin.take();
        let finished = thread::scope(|scope| {
            // nft that was stopped reads no more; then writing fails, which is no news.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(text.as_bytes())));
            wait(&mut child, start, bound)
        })?;
        let wall = start.elapsed();
        Ok(finished.then(|| Time { wall, processor: children().saturating_sub(before) }))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Whether the process came to its end within the bound; else it is stopped.
fn wait(child: &mut Child, start: Instant, bound: Duration) -> Result<bool, String> {
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(true),
            Some(status) => return Err(format!("nft: {status}")),
            None if start.elapsed() > bound => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(false);
            }
            // Short beside what is measured, both at the beginning and after a while.
            None => thread::sleep(
                (start.elapsed() / 50).clamp(Duration::from_micros(100), Duration::from_millis(20)),
            ),
        }
    }
}

/// Processor time of the processes that this one started and waited for, in steps of a hundredth of a second.
fn children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[derive(Clone, Copy)]
struct Time {
    wall: Duration,
    processor: Duration,
}

/// What was measured of one table.
struct Row {
    layout: Layout,
    services: usize,
    endpoints: usize,
    bytes: usize,
    operations: usize,
    full: Option<Time>,
    /// One Service more, one endpoint in the place of another.
    small: Option<[Duration; 2]>,
}

fn measure(layout: Layout, services: usize, endpoints: usize, options: &Options) -> Result<Row, String> {
    let bound = options.bound;
    let mut config = ProxyConfig::new(IpFamily::Ipv4, "node-7");
    config.local_detector = LocalDetector::Cidr("10.0.0.0/8".parse().map_err(|_| "no range")?);
    let mut proxy = Proxy::with_layout(config, layout);
    let mut slices = SliceCache::new();
    let add = |proxy: &mut Proxy, slices: &mut SliceCache, at: usize| {
        proxy.touch(&slices.apply(&uniform::slice(at, endpoints, 0)));
        let _ = proxy.apply(&uniform::service(at));
    };
    (0..services).for_each(|at| add(&mut proxy, &mut slices, at));
    let mut text = String::new();
    let sync = proxy.sync(&slices, Scope::Full, &mut text);
    proxy.succeeded();
    let namespace = Namespace::new()?;
    let mut full = Some(Time { wall: Duration::ZERO, processor: Duration::ZERO });
    for chunk in sync.chunks(&text, options.chunk) {
        let Some(sum) = full else { break };
        let rest = bound.saturating_sub(sum.wall);
        full = namespace
            .load(chunk, rest)?
            .map(|time| Time { wall: sum.wall + time.wall, processor: sum.processor + time.processor });
    }
    let mut row = Row {
        layout,
        services,
        endpoints,
        bytes: text.len(),
        operations: sync.operations,
        full,
        small: None,
    };
    if full.is_none() {
        return Ok(row);
    }
    let mut step = |change: &mut dyn FnMut(&mut Proxy, &mut SliceCache, usize)| {
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS {
            change(&mut proxy, &mut slices, round);
            text.clear();
            let _ = proxy.sync(&slices, Scope::Changes, &mut text);
            proxy.succeeded();
            let time = namespace.load(&text, bound)?.ok_or("a small change takes longer than the bound")?;
            times.push(time.wall);
        }
        Ok::<_, String>(times.into_iter().min().unwrap_or_default())
    };
    let more = step(&mut |proxy, slices, round| add(proxy, slices, services + round))?;
    let other = step(&mut |proxy, slices, round| {
        proxy.touch(&slices.apply(&uniform::slice(services / 2 + round, endpoints, 1)));
    })?;
    row.small = Some([more, other]);
    Ok(row)
}

impl Row {
    fn layout(&self) -> &'static str {
        if self.layout == Layout::Flat { "flat" } else { "reference" }
    }

    fn text(&self, bound: Duration) -> String {
        let Self { services, endpoints, operations, .. } = self;
        let size = format!("{services} x {endpoints}");
        let mut line =
            format!("{size:>12}  {:<9}  {:>8.1}  {operations:>10}", self.layout(), self.bytes as f64 / 1e6);
        let _ = match self.full {
            Some(time) => {
                write!(line, "  {:>9.2}  {:>9.2}", time.wall.as_secs_f64(), time.processor.as_secs_f64())
            }
            None => write!(line, "  {:>9}  {:>9}", format!("> {}", bound.as_secs()), "-"),
        };
        for time in self.small.iter().flatten() {
            let _ = write!(line, "  {:>10.1}", time.as_secs_f64() * 1e3);
        }
        line
    }

    fn json(&self) -> String {
        let seconds =
            |time: Option<Duration>| time.map_or("null".into(), |time| time.as_secs_f64().to_string());
        format!(
            r#"{{"layout":"{}","services":{},"endpoints":{},"bytes":{},"operations":{},"fullSeconds":{},"fullProcessorSeconds":{},"serviceSeconds":{},"endpointSeconds":{}}}"#,
            self.layout(),
            self.services,
            self.endpoints,
            self.bytes,
            self.operations,
            seconds(self.full.map(|time| time.wall)),
            seconds(self.full.map(|time| time.processor)),
            seconds(self.small.map(|[service, _]| service)),
            seconds(self.small.map(|[_, endpoint]| endpoint)),
        )
    }
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    if !options.json {
        println!(
            "{:>12}  {:<9}  {:>8}  {:>10}  {:>9}  {:>9}  {:>10}  {:>10}",
            "services", "layout", "MB", "operations", "full s", "CPU s", "+1 Svc ms", "endpoint ms"
        );
    }
    for &(services, endpoints) in &options.sizes {
        for layout in &options.layouts {
            match measure(*layout, services, endpoints, &options) {
                Ok(row) if options.json => println!("{}", row.json()),
                Ok(row) => println!("{}", row.text(options.bound)),
                Err(error) => {
                    eprintln!("{services} x {endpoints}: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}
