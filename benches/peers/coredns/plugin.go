package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/kubernetes"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// config is the plugin's options, as a case of area dns has them.
type config struct {
	Zones            []string          `json:"zones"`
	Namespaces       []string          `json:"namespaces"`
	NamespaceLabels  map[string]string `json:"namespace_labels"`
	Labels           map[string]string `json:"labels"`
	Pods             string            `json:"pods"`
	TTL              int               `json:"ttl"`
	NoEndpoints      bool              `json:"noendpoints"`
	EndpointPodNames bool              `json:"endpoint_pod_names"`
	IgnoreEmpty      bool              `json:"ignore_empty_service"`
	Fallthrough      *[]string         `json:"fallthrough"`
	Multicluster     []string          `json:"multicluster"`
	Zonal            bool              `json:"zonal"`
	LocalIPs         []string          `json:"local_ips"`
	Serial           int64             `json:"serial"`
	Upstream         []upstreamAnswer  `json:"upstream"`
}

// stanza is the Corefile's block with these options.
func (c *config) stanza(url string) string {
	lines := []string{"endpoint " + url, "ttl " + strconv.Itoa(c.TTL)}
	add := func(wanted bool, words ...string) {
		if wanted {
			lines = append(lines, strings.Join(words, " "))
		}
	}
	add(c.Pods != "", "pods", c.Pods)
	add(len(c.Namespaces) > 0, append([]string{"namespaces"}, c.Namespaces...)...)
	add(c.NamespaceLabels != nil, "namespace_labels", equalities(c.NamespaceLabels))
	add(c.Labels != nil, "labels", equalities(c.Labels))
	add(c.NoEndpoints, "noendpoints")
	add(c.EndpointPodNames, "endpoint_pod_names")
	add(c.IgnoreEmpty, "ignore empty_service")
	add(len(c.Multicluster) > 0, append([]string{"multicluster"}, c.Multicluster...)...)
	add(c.Zonal, "zonal")
	if c.Fallthrough != nil {
		lines = append(lines, strings.Join(append([]string{"fallthrough"}, *c.Fallthrough...), " "))
	}
	return "kubernetes " + strings.Join(c.Zones, " ") + " {\n  " + strings.Join(lines, "\n  ") + "\n}\n"
}

func equalities(labels map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, key+"="+labels[key])
	}
	return strings.Join(pairs, ",")
}

// upstreamAnswer is what the world outside of the cluster answers to a question.
type upstreamAnswer struct {
	QName  string   `json:"qname"`
	QType  string   `json:"qtype"`
	Rcode  string   `json:"rcode"`
	TC     bool     `json:"tc"`
	Answer []string `json:"answer"`
}

type upstream []upstreamAnswer

// Lookup fails for what is not listed.
func (u upstream) Lookup(_ context.Context, _ request.Request, name string, typ uint16) (*dns.Msg, error) {
	for _, known := range u {
		if !strings.EqualFold(known.QName, name) || known.QType != dns.TypeToString[typ] {
			continue
		}
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.StringToRcode[known.Rcode], Truncated: known.TC}}
		for _, line := range known.Answer {
			record, err := dns.NewRR(line)
			if err != nil {
				return nil, err
			}
			m.Answer = append(m.Answer, record)
		}
		return m, nil
	}
	return nil, fmt.Errorf("nobody knows %s", name)
}

// next stands for the plugin after this one.
type next struct{ asked bool }

func (n *next) Name() string { return "next" }

func (n *next) ServeDNS(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	n.asked = true
	return dns.RcodeSuccess, nil
}

// server is a running plugin.
type server struct {
	*kubernetes.Kubernetes
	next *next
	stop func()
}

// start parses the stanza, connects to the API server, and returns once all objects are there.
func (s *apiServer) start(c *config, objects []json.RawMessage) (*server, error) {
	url, remove, err := s.add(objects)
	if err != nil {
		return nil, err
	}
	server, err := run(c, url)
	if err != nil {
		remove()
		return nil, err
	}
	server.stop = func() {
		_ = server.APIConn.Stop()
		remove()
	}
	return server, nil
}

func run(c *config, url string) (*server, error) {
	controller := caddy.NewTestController("dns", c.stanza(url))
	controller.Next()
	k, err := kubernetes.ParseStanza(controller)
	if err != nil {
		return nil, err
	}
	// The plugin's own start looks whether it is synced ten times a second; thousands of clusters can't wait for that.
	if _, _, err := k.InitKubeCache(context.Background()); err != nil {
		return nil, err
	}
	go k.APIConn.Run()
	for waited := time.Duration(0); !k.APIConn.HasSynced(); waited += time.Millisecond {
		if waited > time.Minute {
			return nil, fmt.Errorf("not synced after %s", waited)
		}
		time.Sleep(time.Millisecond)
	}
	var local []net.IP
	for _, text := range c.LocalIPs {
		ip := net.ParseIP(text)
		if four := ip.To4(); four != nil {
			ip = four
		}
		local = append(local, ip)
	}
	field(k, "localIPs").Set(reflect.ValueOf(local))
	// Serials are times; those of a case are given.
	connection := reflect.ValueOf(k.APIConn).Interface()
	for _, name := range []string{"modified", "multiClusterModified", "extModified"} {
		field(connection, name).Addr().Interface().(*atomic.Int64).Store(c.Serial)
	}
	after := &next{}
	k.Next = after
	k.Upstream = upstream(c.Upstream)
	return &server{Kubernetes: k, next: after}, nil
}

// field gives access to an unexported field.
func field(owner any, name string) reflect.Value {
	value := reflect.ValueOf(owner).Elem().FieldByName(name)
	return reflect.NewAt(value.Type(), unsafe.Pointer(value.UnsafeAddr())).Elem()
}

var _ plugin.Handler = (*next)(nil)
