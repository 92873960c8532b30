//! Vectors of area `dns`: plugin options and objects, and the sections of the answer to each query; and tables of names, labels and
//! resolv.conf.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;
use svc_dns::{
    Answer, Behavior, DnsBasis, EmptyServices, EndpointNames, Endpoints, External, Grammar, Headless,
    Kubelet, Looked, Name, NameParts, Options, Pair, Pods, Question, Rcode, Record, ResolvConf, SearchLimits,
    Serials, Sync, TransferStyle, Type, Zonal, Zones, endpoint_label, zones_from_text,
};
use svc_model::{Object, Pod, PodDnsConfigOption, Selector};

/// Runs the cases of one vector file.
pub fn run(text: &str) -> Result<Vec<(String, Result<(), String>)>, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let cases = file["cases"].as_array().ok_or("no `cases`")?;
    let kind = file["kind"].as_str().ok_or("no `kind`")?;
    let zones = if matches!(kind, "query" | "transfer") { Some(zones(&file)?) } else { None };
    let mut results = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let (name, result) = match (kind, &zones) {
            ("query", Some(zones)) => (question_name(index, case), query(zones, &file, case)),
            ("transfer", Some(zones)) => (question_name(index, case), transfer(zones, case)),
            ("endpoint_hostname", _) => {
                (format!("{index} {}", str_of(case, "address")), endpoint_hostname(case))
            }
            ("parse_name", _) => (format!("{index} {}", str_of(case, "qname")), parse_name(case)),
            ("resolvconf_parse", _) => (format!("{index}"), resolvconf_parse(case)),
            ("resolvconf_limits", _) => {
                (format!("{index} {}", str_of(case, "what")), resolvconf_limits(case))
            }
            ("resolvconf_options", _) => (format!("{index}"), resolvconf_options(case)),
            ("resolvconf_policy", _) => {
                (format!("{index} {}", str_of(case, "dns_policy")), resolvconf_policy(case))
            }
            ("resolvconf_pod", _) => (format!("{index}"), resolvconf_pod(case)),
            _ => return Err(format!("unknown kind `{kind}`")),
        };
        results.push((name, result));
    }
    Ok(results)
}

fn question_name(index: usize, case: &Value) -> String {
    format!("{index} {} {}", str_of(case, "qname"), str_of(case, "qtype"))
}

fn str_of<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn flag(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or_default()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn names(value: &Value) -> Result<Vec<Name>, String> {
    let zones = strings(value)
        .into_iter()
        .map(|text| zones_from_text(&text).map_err(|error| format!("{text}: {error}")));
    Ok(zones.collect::<Result<Vec<_>, _>>()?.concat())
}

/// `fallthrough`: null is off, an empty list is every zone.
fn fallthrough(value: &Value) -> Result<Vec<Name>, String> {
    match value.as_array() {
        None => Ok(Vec::new()),
        Some(zones) if zones.is_empty() => Ok(vec![Name::root()]),
        Some(_) => names(value),
    }
}

fn selector(value: &Value) -> Result<Option<Selector>, String> {
    let Some(labels) = value.as_object() else { return Ok(None) };
    let pairs: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.join(",").parse().map(Some).map_err(|error| format!("{error}"))
}

fn zones(file: &Value) -> Result<Zones, String> {
    let config = &file["config"];
    let mut options = Options::default();
    options.zones = names(&config["zones"])?;
    options.namespaces = strings(&config["namespaces"]).into_iter().map(Into::into).collect();
    options.namespace_labels = selector(&config["namespace_labels"])?;
    options.labels = selector(&config["labels"])?;
    options.pods = match str_of(config, "pods") {
        "insecure" => Pods::Insecure,
        "verified" => Pods::Verified,
        _ => Pods::Disabled,
    };
    options.ttl = config["ttl"].as_u64().and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or(5);
    if flag(config, "noendpoints") {
        options.endpoints = Endpoints::Off;
    }
    if flag(config, "endpoint_pod_names") {
        options.endpoint_names = EndpointNames::Pod;
    }
    if flag(config, "ignore_empty_service") {
        options.empty_services = EmptyServices::Absent;
    }
    if flag(config, "zonal") {
        options.zonal = Zonal::On;
    }
    options.fallthrough = fallthrough(&config["fallthrough"])?;
    options.multicluster = names(&config["multicluster"])?;
    options.local_addresses =
        strings(&config["local_ips"]).iter().filter_map(|addr| addr.parse().ok()).collect();
    options.behavior = Behavior::CoreDns;
    // A file that records CoreDNS's own transfers says so; the others have the weights of the query path.
    if strings(&file["notes"]).iter().any(|note| note.starts_with("what CoreDNS itself emits")) {
        options.transfer = TransferStyle::PerSlice;
    }
    if config["k8s_external"].is_object() {
        let plugin = &config["k8s_external"];
        let mut external = External::new(names(&plugin["zones"])?);
        if let Some(apex) = plugin["apex"].as_str() {
            external.apex = apex.into();
        }
        external.ttl = plugin["ttl"].as_u64().and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or(5);
        external.headless = if flag(plugin, "headless") { Headless::Served } else { Headless::Absent };
        external.fallthrough = fallthrough(&plugin["fallthrough"])?;
        options.external = Some(external);
    }
    let mut zones = Zones::new(options).map_err(|error| error.to_string())?;
    let serial = config["serial"].as_u64().and_then(|serial| u32::try_from(serial).ok()).unwrap_or_default();
    zones.set_serials(Serials { internal: serial, multicluster: serial, external: serial });
    zones.set_sync(if config["synced"] == false { Sync::Pending } else { Sync::Done });
    for object in file["objects"].as_array().into_iter().flatten() {
        let read = Object::from_kind(str_of(object, "kind"), object);
        let object = read
            .ok_or_else(|| format!("unknown kind {}", object["kind"]))?
            .map_err(|error| error.to_string())?;
        let _ = zones.apply(&object);
    }
    Ok(zones)
}

/// Reads `name ttl IN TYPE rdata`, as far as upstream answers in the vectors go.
fn record(line: &str) -> Result<Record, String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [owner, ttl, "IN", qtype, data] = fields[..] else { return Err(format!("no record: {line}")) };
    let bad = |error: &dyn std::fmt::Display| format!("{line}: {error}");
    Ok(Record {
        owner: owner.parse().map_err(|error| bad(&error))?,
        ttl: ttl.parse().map_err(|error| bad(&error))?,
        data: match qtype {
            "A" => svc_dns::Data::A(data.parse().map_err(|error| bad(&error))?),
            "AAAA" => svc_dns::Data::Aaaa(data.parse().map_err(|error| bad(&error))?),
            "CNAME" => svc_dns::Data::Cname(data.parse().map_err(|error| bad(&error))?),
            _ => return Err(format!("unexpected type: {line}")),
        },
    })
}

/// What the outside world of the file answers; a lookup that is not listed fails.
fn look_up(file: &Value, name: &Name, qtype: Type) -> Looked {
    let is = |entry: &&Value| {
        str_of(entry, "qname").parse::<Name>().is_ok_and(|other| other.is(name))
            && str_of(entry, "qtype").parse::<Type>() == Ok(qtype)
    };
    let Some(entry) = file["config"]["upstream"].as_array().into_iter().flatten().find(is) else {
        return Looked::Failed;
    };
    let answer = strings(&entry["answer"]).iter().map(|line| record(line)).collect::<Result<Vec<_>, _>>();
    let rcode = if str_of(entry, "rcode") == "NXDOMAIN" { Rcode::NxDomain } else { Rcode::NoError };
    answer.map_or(Looked::Failed, |answer| Looked::Answer { rcode, truncated: flag(entry, "tc"), answer })
}

fn query(zones: &Zones, file: &Value, case: &Value) -> Result<(), String> {
    let name: Name = str_of(case, "qname").parse().map_err(|error| format!("qname: {error}"))?;
    let qtype: Type = str_of(case, "qtype").parse().map_err(|error| format!("qtype: {error}"))?;
    let upstream = |name: &Name, qtype: Type| look_up(file, name, qtype);
    let answer = zones.answer(&Question::new(&name, qtype), &upstream);
    let expected = expected(case);
    let got = match &answer {
        None => "NEXT tc=false\nanswer\nauthority\nadditional".to_owned(),
        Some(answer) => shown(answer),
    };
    if expected != got {
        return Err(format!("expected {expected}\n     got {got}"));
    }
    // A CNAME never follows the records of its target.
    let owners: Vec<&Name> =
        answer.iter().flat_map(|answer| &answer.answer).map(|record| &record.owner).collect();
    for (index, record) in answer.iter().flat_map(|answer| &answer.answer).enumerate() {
        if let svc_dns::Data::Cname(target) = &record.data
            && owners.iter().take(index).any(|owner| owner.is(target))
        {
            return Err(format!("the CNAME to {target} follows its target"));
        }
    }
    Ok(())
}

fn sections(rcode: &str, tc: bool, sections: [BTreeSet<String>; 3]) -> String {
    let [answer, authority, additional] =
        sections.map(|section| section.into_iter().map(|line| format!("\n  {line}")).collect::<String>());
    format!("{rcode} tc={tc}\nanswer{answer}\nauthority{authority}\nadditional{additional}")
}

fn expected(case: &Value) -> String {
    let section = |key| strings(&case[key]).into_iter().collect();
    let lists = [section("answer"), section("authority"), section("additional")];
    sections(str_of(case, "rcode"), flag(case, "tc"), lists)
}

fn shown(answer: &Answer) -> String {
    let section = |records: &[Record]| records.iter().map(ToString::to_string).collect();
    let lists = [section(&answer.answer), section(&answer.authority), section(&answer.additional)];
    sections(&answer.rcode.to_string(), answer.truncated, lists)
}

fn transfer(zones: &Zones, case: &Value) -> Result<(), String> {
    let name: Name = str_of(case, "qname").parse().map_err(|error| format!("qname: {error}"))?;
    let serial = case["ixfr_serial"].as_u64().and_then(|serial| u32::try_from(serial).ok());
    let records: Vec<Record> = match zones.transfer(&name, serial) {
        Ok(records) => records.collect(),
        Err(rcode) => return same(&str_of(case, "rcode").to_owned(), &rcode.to_string()),
    };
    let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    let wanted = strings(&case["answer"]);
    same(&str_of(case, "rcode").to_owned(), &"NOERROR".to_owned())?;
    same(&(wanted.first(), wanted.last()), &(lines.first(), lines.last()))?;
    // CoreDNS repeats a record that two endpoints share; a zone holds it once.
    same(&wanted.iter().collect::<BTreeSet<_>>(), &lines.iter().collect::<BTreeSet<_>>())
}

fn endpoint_hostname(case: &Value) -> Result<(), String> {
    let names = if flag(case, "endpoint_pod_names") { EndpointNames::Pod } else { EndpointNames::Address };
    let label =
        endpoint_label(str_of(case, "address"), str_of(case, "hostname"), str_of(case, "pod_name"), names);
    same(&str_of(case, "expected"), &label.as_str())
}

fn parse_name(case: &Value) -> Result<(), String> {
    let (qname, zone) = (str_of(case, "qname"), str_of(case, "zone"));
    let left = qname.strip_suffix(zone).ok_or("the name is not in the zone")?;
    let left = left.strip_suffix('.').unwrap_or(left);
    let labels: Vec<&str> = if left.is_empty() { Vec::new() } else { left.split('.').collect() };
    let mut grammar = Grammar::default();
    grammar.pair = if flag(case, "multicluster") { Pair::EndpointCluster } else { Pair::PortProtocol };
    grammar.zonal = if flag(case, "zonal") { Zonal::On } else { Zonal::Off };
    let parts = NameParts::read(&labels, grammar);
    let expected = &case["expected"];
    if expected.is_null() {
        return same(&None, &parts);
    }
    let parts = parts.ok_or("expected a name, got none")?;
    // Where only `svc` or `pod` is asked for, the reference keeps no part.
    let branch = match parts.branch {
        Some(svc_dns::Branch::Service) => "svc",
        Some(svc_dns::Branch::Pod) => "pod",
        None => "",
    };
    let topology = parts.topology.join(".");
    let got = [
        parts.port,
        parts.protocol,
        parts.endpoint,
        parts.cluster,
        parts.service,
        parts.namespace,
        branch,
        &topology,
    ];
    let keys = ["port", "protocol", "endpoint", "cluster", "service", "namespace", "kind", "topology_zone"];
    same(&keys.map(|key| str_of(expected, key)), &got)
}

fn resolvconf_parse(case: &Value) -> Result<(), String> {
    let conf = ResolvConf::parse(str_of(case, "text"));
    same(&flag(case, "error"), &conf.is_err())?;
    let Ok(conf) = conf else { return Ok(()) };
    same(&strings(&case["nameservers"]), &texts(&conf.nameservers))?;
    same(&strings(&case["searches"]), &texts(&conf.searches))?;
    same(&strings(&case["options"]), &texts(&conf.options))
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn resolvconf_limits(case: &Value) -> Result<(), String> {
    let input = strings(&case["input"]).into_iter().map(Into::into).collect();
    let mut conf = ResolvConf::default();
    let (event, got) = if str_of(case, "what") == "nameservers" {
        conf.nameservers = input;
        (conf.limit_nameservers(), texts(&conf.nameservers))
    } else {
        conf.searches = input;
        let limits = if flag(case, "expanded") { SearchLimits::Expanded } else { SearchLimits::Legacy };
        (conf.limit_searches(limits), texts(&conf.searches))
    };
    same(&strings(&case["expected"]), &got)?;
    same(&flag(case, "warning"), &event.is_some())
}

fn resolvconf_options(case: &Value) -> Result<(), String> {
    let options: Vec<PodDnsConfigOption> =
        serde_json::from_value(case["dns_config"].clone()).map_err(|error| error.to_string())?;
    let options_before = strings(&case["existing"]).into_iter().map(Into::into).collect();
    let mut conf = ResolvConf { options: options_before, ..ResolvConf::default() };
    conf.merge_options(&options);
    same_set(&case["expected_set"], &texts(&conf.options))
}

fn same_set(expected: &Value, got: &[String]) -> Result<(), String> {
    let mut expected = strings(expected);
    let mut got = got.to_vec();
    expected.sort();
    got.sort();
    same(&expected, &got)
}

fn resolvconf_policy(case: &Value) -> Result<(), String> {
    let mut pod = Pod::default();
    pod.spec.dns_policy = str_of(case, "dns_policy").into();
    pod.spec.host_network = flag(case, "host_network");
    let got = match DnsBasis::of(&pod) {
        Ok(DnsBasis::Cluster) => "cluster",
        Ok(DnsBasis::Host) => "host",
        Ok(DnsBasis::Nothing) => "none",
        Err(_) => "error",
    };
    same(&str_of(case, "expected"), &got)
}

fn resolvconf_pod(case: &Value) -> Result<(), String> {
    let settings = &case["kubelet"];
    let addresses = |key: &str| -> Vec<IpAddr> {
        strings(&settings[key]).iter().filter_map(|addr| addr.parse().ok()).collect()
    };
    let mut kubelet = Kubelet::new(addresses("cluster_dns"), str_of(settings, "cluster_domain"));
    kubelet.node_addresses = addresses("node_ips");
    kubelet.node = match settings["node_resolv_conf"].as_str() {
        Some(text) => Some(ResolvConf::parse(text).map_err(|error| error.to_string())?),
        None => None,
    };
    let pod: Pod = serde_json::from_value(case["pod"].clone()).map_err(|error| error.to_string())?;
    let conf = kubelet.pod_dns(&pod).conf;
    let expected = &case["expected"];
    same(&strings(&expected["nameservers"]), &texts(&conf.nameservers))?;
    same(&strings(&expected["searches"]), &texts(&conf.searches))?;
    same_set(&expected["options_set"], &texts(&conf.options))
}

fn same<T: PartialEq + std::fmt::Debug>(expected: &T, got: &T) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("expected {expected:?}\n     got {got:?}")) }
}
