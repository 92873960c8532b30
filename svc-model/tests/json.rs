//! Objects of every kind, read from JSON and written again: nothing that was sent is lost or altered.
//!
//! Documents are made from the table of fields below. A field is missing, or holds what the API allows, or what it
//! does not: text that is no address, numbers out of range, values of enums that nobody has heard of.

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use serde_json::{Map, Value, json};
use svc_model::{Object, ObjectKind};

/// Structs with their fields: `name:type`, where a type is `text`, `int`, `bool`, `time`, `port` (a number or a name),
/// `map`, `flags` (a map to truth values), another struct, or a list of one of those.
const STRUCTS: &[(&str, &str)] = &[
    ("Service", "metadata:ObjectMeta spec:ServiceSpec status:ServiceStatus"),
    (
        "ServiceSpec",
        "ports:[ServicePort] selector:map clusterIP:text clusterIPs:[text] type:text externalIPs:[text] \
         sessionAffinity:text loadBalancerIP:text loadBalancerSourceRanges:[text] externalName:text \
         externalTrafficPolicy:text healthCheckNodePort:int publishNotReadyAddresses:bool \
         sessionAffinityConfig:SessionAffinityConfig ipFamilies:[text] ipFamilyPolicy:text \
         allocateLoadBalancerNodePorts:bool loadBalancerClass:text internalTrafficPolicy:text \
         trafficDistribution:text",
    ),
    ("ServicePort", "name:text protocol:text appProtocol:text port:int targetPort:port nodePort:int"),
    ("SessionAffinityConfig", "clientIP:ClientIp"),
    ("ClientIp", "timeoutSeconds:int"),
    ("ServiceStatus", "loadBalancer:LoadBalancer"),
    ("LoadBalancer", "ingress:[Ingress]"),
    ("Ingress", "ip:text hostname:text ipMode:text"),
    ("Pod", "metadata:ObjectMeta spec:PodSpec status:PodStatus"),
    (
        "PodSpec",
        "containers:[Container] initContainers:[Container] nodeName:text nodeSelector:map hostNetwork:bool \
         hostname:text subdomain:text restartPolicy:text dnsPolicy:text dnsConfig:DnsConfig \
         setHostnameAsFQDN:bool enableServiceLinks:bool",
    ),
    ("Container", "name:text ports:[ContainerPort] restartPolicy:text readinessProbe:Probe"),
    ("ContainerPort", "name:text hostPort:int containerPort:int protocol:text"),
    ("Probe", "httpGet:ProbePort tcpSocket:ProbePort grpc:ProbePort"),
    ("ProbePort", "port:port"),
    ("DnsConfig", "nameservers:[text] searches:[text] options:[DnsOption]"),
    ("DnsOption", "name:text value:text"),
    ("PodStatus", "phase:text conditions:[Condition] hostIP:text podIP:text podIPs:[PodIp]"),
    ("PodIp", "ip:text"),
    ("Condition", "type:text status:text lastTransitionTime:time reason:text message:text"),
    ("Node", "metadata:ObjectMeta spec:NodeSpec status:NodeStatus"),
    ("NodeSpec", "podCIDR:text podCIDRs:[text] unschedulable:bool"),
    ("NodeStatus", "addresses:[NodeAddress] allocatable:map conditions:[NodeCondition]"),
    ("NodeAddress", "type:text address:text"),
    ("NodeCondition", "type:text status:text lastTransitionTime:time"),
    ("Namespace", "metadata:ObjectMeta status:NamespaceStatus"),
    ("NamespaceStatus", "phase:text"),
    ("EndpointSlice", "metadata:ObjectMeta addressType:text endpoints:[Endpoint] ports:[EndpointPort]"),
    (
        "Endpoint",
        "addresses:[text] conditions:EndpointConditions hostname:text targetRef:ObjectReference nodeName:text \
         zone:text hints:Hints",
    ),
    ("EndpointConditions", "ready:bool serving:bool terminating:bool"),
    ("Hints", "forZones:[Named] forNodes:[Named]"),
    ("Named", "name:text"),
    ("EndpointPort", "name:text protocol:text port:int appProtocol:text"),
    ("Endpoints", "metadata:ObjectMeta subsets:[Subset]"),
    ("Subset", "addresses:[EndpointAddress] notReadyAddresses:[EndpointAddress] ports:[EndpointPort]"),
    ("EndpointAddress", "ip:text hostname:text nodeName:text targetRef:ObjectReference"),
    ("NetworkPolicy", "metadata:ObjectMeta spec:NetworkPolicySpec"),
    ("NetworkPolicySpec", "podSelector:Selector ingress:[Ingoing] egress:[Outgoing] policyTypes:[text]"),
    ("Ingoing", "ports:[PolicyPort] from:[Peer]"),
    ("Outgoing", "ports:[PolicyPort] to:[Peer]"),
    ("PolicyPort", "protocol:text port:port endPort:int"),
    ("Peer", "podSelector:Selector namespaceSelector:Selector ipBlock:IpBlock"),
    ("IpBlock", "cidr:text except:[text]"),
    ("Selector", "matchLabels:map matchExpressions:[Expression]"),
    ("Expression", "key:text operator:text values:[text]"),
    ("ClusterNetworkPolicy", "metadata:ObjectMeta spec:ClusterPolicySpec"),
    ("ClusterPolicySpec", "tier:text priority:int subject:Subject ingress:[ClusterIn] egress:[ClusterOut]"),
    ("Subject", "namespaces:Selector pods:PodSelector"),
    ("PodSelector", "namespaceSelector:Selector podSelector:Selector"),
    ("ClusterIn", "name:text action:text from:[Subject] protocols:[Transport]"),
    ("ClusterOut", "name:text action:text to:[ClusterPeer] protocols:[Transport]"),
    ("ClusterPeer", "namespaces:Selector pods:PodSelector nodes:Selector networks:[text] domainNames:[text]"),
    ("Transport", "tcp:Destination udp:Destination sctp:Destination destinationNamedPort:text"),
    ("Destination", "destinationPort:DestinationPort"),
    ("DestinationPort", "number:int range:Range"),
    ("Range", "start:int end:int"),
    ("AdminNetworkPolicy", "metadata:ObjectMeta spec:AdminPolicySpec"),
    ("BaselineAdminNetworkPolicy", "metadata:ObjectMeta spec:AdminPolicySpec"),
    ("AdminPolicySpec", "priority:int subject:Subject ingress:[AdminIn] egress:[AdminOut]"),
    ("AdminIn", "name:text action:text from:[Subject] ports:[AdminPort]"),
    ("AdminOut", "name:text action:text to:[ClusterPeer] ports:[AdminPort]"),
    ("AdminPort", "portNumber:PortNumber namedPort:text portRange:PortRange"),
    ("PortNumber", "protocol:text port:int"),
    ("PortRange", "protocol:text start:int end:int"),
    ("ServiceImport", "metadata:ObjectMeta spec:ImportSpec"),
    (
        "ImportSpec",
        "ports:[ImportPort] ips:[text] type:text sessionAffinity:text sessionAffinityConfig:SessionAffinityConfig",
    ),
    ("ImportPort", "name:text protocol:text appProtocol:text port:int"),
    ("ServiceCIDR", "metadata:ObjectMeta spec:CidrSpec status:CidrStatus"),
    ("CidrSpec", "cidrs:[text]"),
    ("CidrStatus", "conditions:[Condition]"),
    (
        "KubeProxyConfiguration",
        "metadata:ObjectMeta mode:text clusterCIDR:text hostnameOverride:text bindAddress:text \
         healthzBindAddress:text nodePortAddresses:[text] detectLocalMode:text detectLocal:DetectLocal \
         iptables:Iptables ipvs:Ipvs nftables:Nftables conntrack:Conntrack featureGates:flags",
    ),
    ("DetectLocal", "bridgeInterface:text interfaceNamePrefix:text clusterCIDRs:[text]"),
    (
        "Iptables",
        "masqueradeBit:int masqueradeAll:bool localhostNodePorts:bool syncPeriod:text minSyncPeriod:text",
    ),
    (
        "Ipvs",
        "scheduler:text excludeCIDRs:[text] strictARP:bool masqueradeBit:int masqueradeAll:bool syncPeriod:text \
         minSyncPeriod:text tcpTimeout:text tcpFinTimeout:text udpTimeout:text",
    ),
    ("Nftables", "masqueradeBit:int masqueradeAll:bool syncPeriod:text minSyncPeriod:text"),
    (
        "Conntrack",
        "maxPerCore:int min:int tcpBeLiberal:bool tcpEstablishedTimeout:text tcpCloseWaitTimeout:text \
         udpTimeout:text udpStreamTimeout:text",
    ),
    ("Deployment", "metadata:ObjectMeta spec:Replicated"),
    ("ReplicaSet", "metadata:ObjectMeta spec:Replicated"),
    ("Replicated", "replicas:int selector:Selector template:Template"),
    ("StatefulSet", "metadata:ObjectMeta spec:Stateful"),
    ("Stateful", "replicas:int selector:Selector template:Template serviceName:text ordinals:Ordinals"),
    ("Ordinals", "start:int"),
    ("DaemonSet", "metadata:ObjectMeta spec:Daemon"),
    ("Daemon", "selector:Selector template:Template"),
    ("Job", "metadata:ObjectMeta spec:JobSpec"),
    ("JobSpec", "parallelism:int completions:int completionMode:text suspend:bool template:Template"),
    ("CronJob", "metadata:ObjectMeta spec:CronSpec"),
    ("CronSpec", "jobTemplate:JobTemplate"),
    ("JobTemplate", "spec:JobSpec"),
    ("Template", "metadata:ObjectMeta spec:PodSpec"),
    (
        "ObjectMeta",
        "name:text generateName:text namespace:text uid:text resourceVersion:text generation:int \
         creationTimestamp:time deletionTimestamp:time labels:map annotations:map ownerReferences:[Owner] \
         finalizers:[text]",
    ),
    ("Owner", "apiVersion:text kind:text name:text uid:text controller:bool blockOwnerDeletion:bool"),
    (
        "ObjectReference",
        "kind:text namespace:text name:text uid:text apiVersion:text resourceVersion:text fieldPath:text",
    ),
];

const TEXTS: [&str; 16] = [
    "",
    "web",
    "TCP",
    "SCTP",
    "ClusterIP",
    "IPv6",
    "In",
    "NotIn",
    "Deny",
    "None",
    "10.0.0.1",
    "010.0.0.1",
    "fd00::A",
    "10.0.0.0/08",
    "äöü \"quoted\"",
    "a-name-that-is-longer-than-what-fits-into-a-small-string",
];

fn value(of: &str, depth: usize) -> BoxedStrategy<Value> {
    if let Some(item) = of.strip_prefix('[').and_then(|of| of.strip_suffix(']')) {
        return prop::collection::vec(value(item, depth), 0..3).prop_map(Value::from).boxed();
    }
    let text = || prop::sample::select(&TEXTS[..]);
    match of {
        "text" => text().prop_map(Value::from).boxed(),
        "int" => prop_oneof![Just(0), Just(80), Just(-1), any::<i32>()].prop_map(Value::from).boxed(),
        "bool" => any::<bool>().prop_map(Value::from).boxed(),
        "port" => prop_oneof![text().prop_map(Value::from), any::<i32>().prop_map(Value::from)].boxed(),
        "time" => {
            prop::sample::select(vec![json!("2026-01-31T12:00:00Z"), json!("0001-01-01T00:00:00.5Z")]).boxed()
        }
        "map" => prop::collection::btree_map(text(), text(), 0..3).prop_map(|map| json!(map)).boxed(),
        "flags" => {
            prop::collection::btree_map(text(), any::<bool>(), 0..3).prop_map(|map| json!(map)).boxed()
        }
        name => document(name, depth + 1),
    }
}

/// A struct with some of its fields. The deeper, the fewer.
fn document(name: &str, depth: usize) -> BoxedStrategy<Value> {
    let fields = STRUCTS.iter().find(|(known, _)| *known == name).map(|(_, fields)| *fields);
    let fields = fields.into_iter().flat_map(str::split_whitespace).filter_map(|field| field.split_once(':'));
    let present = (1.2 / (depth as f64 + 1.0)).min(0.8);
    let fields: Vec<_> = fields
        .map(|(field, of)| {
            prop::option::weighted(present, value(of, depth)).prop_map(move |value| (field, value))
        })
        .collect();
    fields
        .prop_map(|fields| {
            let fields = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
            Value::Object(fields.collect())
        })
        .boxed()
}

/// A document of any kind, with a field that nobody knows and one that is null.
fn object() -> impl Strategy<Value = (ObjectKind, Value)> {
    prop::sample::select(ObjectKind::ALL).prop_flat_map(|kind| {
        document(kind.as_str(), 0).prop_map(move |mut document| {
            if let Some(fields) = document.as_object_mut() {
                fields.insert("apiVersion".into(), kind.api_version().into());
                fields.insert("kind".into(), kind.as_str().into());
                fields.insert("unheardOf".into(), json!({"a": [1, null]}));
                fields.entry("spec").or_insert(Value::Null);
            }
            (kind, document)
        })
    })
}

/// The document without fields that say nothing: the API server leaves them out, or might have.
fn without_empty(value: Value) -> Value {
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    match value {
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(field, value)| (field, without_empty(value)));
            Value::Object(fields.filter(|(_, value)| !says_nothing(value)).collect::<Map<_, _>>())
        }
        other => other,
    }
}

proptest! {
    /// What is written equals what was read, but for what says nothing, and reads back as the same object.
    #[test]
    fn nothing_is_lost_or_altered((kind, mut document) in object()) {
        let read = |document: &Value| Object::from_kind(kind.as_str(), document).and_then(Result::ok);
        let object = read(&document);
        let written = object.as_ref().and_then(|object| serde_json::to_value(object).ok());
        prop_assert!(written.is_some(), "{document} cannot be read");
        let written = written.unwrap_or_default();
        prop_assert_eq!(&read(&written), &object);
        if let Some(fields) = document.as_object_mut() {
            fields.remove("unheardOf");
        }
        prop_assert_eq!(without_empty(written), without_empty(document));
    }
}

/// The table is of use only if it is whole: every kind is in it, and every struct that a field names.
#[test]
fn the_table_names_every_kind_and_every_struct() {
    let known = |name: &str| STRUCTS.iter().any(|(known, _)| *known == name);
    for kind in ObjectKind::ALL {
        assert!(known(kind.as_str()), "{kind}");
    }
    let scalars = ["text", "int", "bool", "time", "port", "map", "flags"];
    for (name, fields) in STRUCTS {
        for field in fields.split_whitespace() {
            let of = field.split_once(':').map(|(_, of)| of.trim_matches(['[', ']'])).unwrap_or_default();
            assert!(scalars.contains(&of) || known(of), "{name}.{field}");
        }
    }
}
