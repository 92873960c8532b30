//! `dns-server`: serves the names of a cluster from manifests, over UDP and TCP.
//!
//! ```text
//! dns-server -f shop/ --listen 127.0.0.1:1053 --upstream 9.9.9.9
//! dig @127.0.0.1 -p 1053 frontend.shop.svc.cluster.local
//! ```
//!
//! The manifests are read again whenever a file of theirs changes. What is not served here goes to the upstream, if there is one, and
//! is refused otherwise.

mod handler;
mod source;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use hickory_server::Server;
use svc_dns::{Behavior, NamespaceSource, Options, zones_from_text};
use svc_examples::output::{BAD, styled};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use handler::Handler;
use source::Source;
use upstream::Upstream;

/// Serve the names of a cluster from manifests.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Manifests: files, folders, or `-` for standard input.
    #[arg(short, long = "file", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Address and port to serve on, UDP and TCP; port 0 takes a free one.
    #[arg(short, long, default_value = "127.0.0.1:1053")]
    listen: SocketAddr,
    /// Server for names outside the zones, and for targets of ExternalName Services.
    #[arg(short, long, value_parser = upstream_address)]
    upstream: Option<SocketAddr>,
    /// Corefile whose `kubernetes` and `k8s_external` blocks give the options.
    #[arg(short, long, conflicts_with = "zone")]
    corefile: Option<PathBuf>,
    /// Zones, or networks for their reverse zones.
    #[arg(short, long, default_values = ["cluster.local", "0.0.0.0/0", "::/0"])]
    zone: Vec<String>,
    /// Answer as the standards ask where CoreDNS does not.
    #[arg(long)]
    standards: bool,
    /// Seconds between looks at the manifests for changes; 0 looks once.
    #[arg(long, default_value_t = 1.0)]
    reload: f64,
    /// Threads; 0 takes one a processor.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// An address with or without a port.
fn upstream_address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|addr| SocketAddr::new(addr, 53));
    address.or_else(|_| text.parse()).map_err(|_| format!("`{text}` is no address"))
}

impl Args {
    fn options(&self) -> anyhow::Result<Options> {
        let mut options = match &self.corefile {
            Some(path) => {
                let place = || path.display().to_string();
                let text = std::fs::read_to_string(path).with_context(place)?;
                Options::from_corefile(&text).with_context(place)?
            }
            None => {
                let mut options = Options::default();
                options.zones.clear();
                for zone in &self.zone {
                    options.zones.extend(zones_from_text(zone).with_context(|| format!("--zone {zone}"))?);
                }
                // As in a stock Corefile: addresses that are not the cluster's may have names elsewhere.
                if self.upstream.is_some() {
                    options.fallthrough =
                        ["in-addr.arpa", "ip6.arpa"].iter().flat_map(|zone| zone.parse()).collect();
                }
                options
            }
        };
        options.namespace_source = NamespaceSource::Implied;
        options.local_addresses = vec![self.listen.ip()];
        if self.standards {
            options.behavior = Behavior::Standards;
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if args.threads > 0 {
        builder.worker_threads(args.threads);
    }
    let result =
        builder.enable_all().build().context("starting").and_then(|runtime| runtime.block_on(serve(&args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{} {error:#}", styled(BAD, "dns-server:"));
            ExitCode::from(2)
        }
    }
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let mut source = Source::new(args.files.clone(), args.namespace.clone(), args.options()?);
    let zones = source.read()?;
    anstream::eprintln!("{}", source.summary(&zones));
    let (sender, receiver) = watch::channel(Arc::new(zones));
    let (udp, tcp) = bind(args.listen).await?;
    let address = udp.local_addr()?;
    let mut server = Server::new(Handler::new(receiver, args.upstream.map(Upstream::new)));
    server.register_socket(udp);
    server.register_listener(tcp, Duration::from_secs(10), 64);
    anstream::println!("listening on {address}, UDP and TCP");
    if args.reload > 0.0 {
        tokio::spawn(source.watch(sender, Duration::from_secs_f64(args.reload)));
    }
    tokio::select! {
        result = server.block_until_done() => result.context("serving"),
        result = tokio::signal::ctrl_c() => result.context("waiting for a signal"),
    }
}

/// One port for both: a free one that UDP gives may be taken for TCP, so it is tried a few times.
async fn bind(listen: SocketAddr) -> anyhow::Result<(UdpSocket, TcpListener)> {
    let mut tries = if listen.port() == 0 { 16 } else { 1 };
    loop {
        let udp = UdpSocket::bind(listen).await.with_context(|| format!("{listen}, UDP"))?;
        let address = udp.local_addr()?;
        match TcpListener::bind(address).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => {
                tries -= 1;
                if tries == 0 {
                    return Err(error).with_context(|| format!("{address}, TCP"));
                }
            }
        }
    }
}
