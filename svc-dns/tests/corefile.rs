//! Corefiles, the good and the bad.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, outside of test functions"
)]

use svc_dns::{
    CorefileErrorKind, EmptyServices, EndpointNames, Endpoints, Headless, Name, Options, OptionsError, Pods,
    Zonal,
};

fn kubernetes(block: &str) -> Result<Options, CorefileErrorKind> {
    let text = format!("cluster.local:53 {{\n    kubernetes {block}\n}}\n");
    Options::from_corefile(&text).map_err(|error| error.kind().clone())
}

#[test]
fn every_option() {
    let options = Options::from_corefile(
        r#"
# A comment before it all.
example.org {
    whoami
}
.:53 {
    errors
    health {
        lameduck 5s
    }
    kubernetes cluster.local in-addr.arpa clusterset.local {
        endpoint https://10.0.0.1:6443
        tls cert key ca   # a comment behind
        kubeconfig /etc/kube.conf "a context"
        apiserver_qps 10.5
        startup_timeout 10s
        namespace_labels "env in (prod, test)"
        labels app=web,tier!=db
        pods verified
        endpoint_pod_names
        ttl 0
        ignore empty_service
        fallthrough
        multicluster clusterset.local
        zonal
    }
    k8s_external example.com {
        apex ns
        ttl 30
        headless
        fallthrough sub.example.com
    }
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
}
"#,
    )
    .unwrap();
    let names = |zones: &[Name]| zones.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&options.zones), ["cluster.local.", "in-addr.arpa.", "clusterset.local."]);
    assert_eq!(names(&options.multicluster), ["clusterset.local."]);
    assert_eq!(names(&options.fallthrough), ["."]);
    assert_eq!((options.pods, options.endpoint_names), (Pods::Verified, EndpointNames::Pod));
    assert_eq!((options.ttl, options.empty_services, options.zonal), (0, EmptyServices::Absent, Zonal::On));
    assert_eq!(options.endpoints, Endpoints::Served);
    assert!(options.labels.is_some() && options.namespace_labels.is_some());
    let external = options.external.unwrap();
    assert_eq!((external.apex.as_str(), external.ttl, external.headless), ("ns", 30, Headless::Served));
    assert_eq!(names(&external.fallthrough), ["sub.example.com."]);
}

#[test]
fn zones_come_from_the_server_block() {
    let options = kubernetes("{\n noendpoints\n namespaces a b\n }").unwrap();
    assert_eq!(options.zones, ["cluster.local".parse().unwrap()]);
    assert_eq!((options.endpoints, options.namespaces.len()), (Endpoints::Off, 2));
    assert!(kubernetes("").is_ok());
}

#[test]
fn mistakes_are_named() {
    let value =
        |option: &str, value: &str| CorefileErrorKind::Value { option: option.into(), value: value.into() };
    for (block, expected) in [
        ("cluster.local {\n pods maybe\n}", value("pods", "maybe")),
        ("cluster.local {\n pods\n}", CorefileErrorKind::Count("pods".into())),
        ("cluster.local {\n ttl 3601\n}", value("ttl", "3601")),
        ("cluster.local {\n ttl\n}", CorefileErrorKind::Count("ttl".into())),
        ("cluster.local {\n noendpoints yes\n}", CorefileErrorKind::Count("noendpoints".into())),
        ("cluster.local {\n ignore me\n}", value("ignore", "me")),
        ("cluster.local {\n labels a=(\n}", value("labels", "a=(")),
        ("cluster.local {\n apiserver_qps -1\n}", value("apiserver_qps", "-1")),
        ("cluster.local {\n upstream\n}", CorefileErrorKind::Unknown("upstream".into())),
        ("10.0.0.0/8", CorefileErrorKind::Options(OptionsError::NoForwardZone)),
        (
            "cluster.local {\n namespaces a\n namespace_labels a=b\n}",
            CorefileErrorKind::Options(OptionsError::TwoNamespaceFilters),
        ),
        (
            "cluster.local {\n multicluster other.local\n}",
            CorefileErrorKind::Options(OptionsError::NotAZone("other.local".parse().unwrap())),
        ),
        (
            "cluster.local {\n zonal\n noendpoints\n}",
            CorefileErrorKind::Options(OptionsError::ZonalWithoutEndpoints),
        ),
        ("cluster.local\n kubernetes x", CorefileErrorKind::Twice("kubernetes".into())),
    ] {
        assert_eq!(kubernetes(block), Err(expected), "{block}");
    }
    for (text, line, kind) in [
        ("", 1, CorefileErrorKind::NoBlock),
        (". {\n whoami\n}\n", 3, CorefileErrorKind::NoBlock),
        (". {\n kubernetes a {\n", 2, CorefileErrorKind::End),
        (". {\n kubernetes \"a\n}", 2, CorefileErrorKind::End),
        ("kubernetes a\n", 1, CorefileErrorKind::End),
        (". {\n {\n }\n}", 2, CorefileErrorKind::Brace),
    ] {
        let error = Options::from_corefile(text).unwrap_err();
        assert_eq!((error.line(), error.kind()), (line, &kind), "{text}");
        assert!(error.to_string().starts_with("line "));
    }
}
