package main

import (
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"sort"
	"strings"
	"unsafe"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/kubernetes/pkg/proxy/conntrack"
	"k8s.io/kubernetes/pkg/proxy/healthcheck"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	proxytest "k8s.io/kubernetes/pkg/proxy/util/testing"
	netutils "k8s.io/utils/net"
)

// config is the configuration of a case: that of a kube-proxy and of its node.
type config struct {
	Family             v1.IPFamily       `json:"family"`
	NodeName           string            `json:"nodeName"`
	NodeIP             string            `json:"nodeIP"`
	NodeAddresses      []string          `json:"nodeAddresses"`
	NodePortAddresses  []string          `json:"nodePortAddresses"`
	MasqueradeAll      bool              `json:"masqueradeAll"`
	MasqueradeBit      int               `json:"masqueradeBit"`
	LocalDetector      detector          `json:"localDetector"`
	LocalhostNodePorts bool              `json:"localhostNodePorts"`
	RandomFully        bool              `json:"randomFully"`
	TCPLiberal         bool              `json:"conntrackTCPLiberal"`
	NFAcct             []string          `json:"nfacct"`
	TopologyLabels     map[string]string `json:"topologyLabels"`
	ServiceCIDRs       []string          `json:"serviceCIDRs"`
	Scheduler          string            `json:"scheduler,omitempty"`
	ExcludeCIDRs       []string          `json:"excludeCIDRs,omitempty"`
	StrictARP          bool              `json:"strictARP"`
	IPSetIPv6Names     bool              `json:"ipsetIPv6Names"`
}

type detector struct {
	Mode  string `json:"mode"`
	Value string `json:"value"`
}

func (d detector) make() proxyutil.LocalTrafficDetector {
	switch d.Mode {
	case "ClusterCIDR", "NodeCIDR":
		return proxyutil.NewDetectLocalByCIDR(d.Value)
	case "BridgeInterface":
		return proxyutil.NewDetectLocalByBridgeInterface(d.Value)
	case "InterfaceNamePrefix":
		return proxyutil.NewDetectLocalByInterfaceNamePrefix(d.Value)
	}
	return proxyutil.NewNoOpLocalDetector()
}

// network is the node's network: loopback addresses on lo, the others on eth0.
func (c *config) network() *proxytest.FakeNetwork {
	network := proxytest.NewFakeNetwork()
	var loopback, others []net.Addr
	for _, text := range c.NodeAddresses {
		ip := netutils.ParseIPSloppy(text)
		if ip == nil {
			continue
		}
		bits := 8 * len(ip.To16())
		if ip.To4() != nil {
			bits = 32
		}
		addr := &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}
		if ip.IsLoopback() {
			loopback = append(loopback, addr)
		} else {
			others = append(others, addr)
		}
	}
	network.AddInterfaceAddr(&net.Interface{Name: "lo"}, loopback)
	network.AddInterfaceAddr(&net.Interface{Index: 1, Name: "eth0"}, others)
	return network
}

// fakeSysctl remembers nothing but whether conntrack is liberal.
type fakeSysctl struct{ liberal bool }

func (s fakeSysctl) GetSysctl(name string) (int, error) {
	if strings.HasSuffix(name, "nf_conntrack_tcp_be_liberal") && s.liberal {
		return 1, nil
	}
	return 0, nil
}

func (s fakeSysctl) SetSysctl(string, int) error { return nil }

// field gives access to an unexported field: the constructors of the proxiers offer no other way to keep them off the
// machine's network.
func field(proxier any, name string) reflect.Value {
	value := reflect.ValueOf(proxier).Elem().FieldByName(name)
	return reflect.NewAt(value.Type(), unsafe.Pointer(value.UnsafeAddr())).Elem()
}

// isolate replaces what would reach the machine.
func isolate(proxier any, c *config) {
	field(proxier, "conntrack").Set(reflect.ValueOf(conntrack.NewFake()))
	field(proxier, "serviceHealthServer").Set(reflect.ValueOf(healthcheck.NewFakeServiceHealthServer()))
	field(proxier, "networkInterfacer").Set(reflect.ValueOf(c.network()))
}

// proxier is what the three modes have in common.
type proxier interface {
	OnServiceAdd(*v1.Service)
	OnServiceUpdate(old, service *v1.Service)
	OnServiceDelete(*v1.Service)
	OnServiceSynced()
	OnEndpointSliceAdd(*discovery.EndpointSlice)
	OnEndpointSliceUpdate(old, slice *discovery.EndpointSlice)
	OnEndpointSliceDelete(*discovery.EndpointSlice)
	OnEndpointSlicesSynced()
	OnTopologyChange(map[string]string)
	OnServiceCIDRsChanged([]string)
}

// node is one kube-proxy, and the objects that it has seen.
type node struct {
	proxier  proxier
	started  bool
	services map[string]*v1.Service
	slices   map[string]*discovery.EndpointSlice
}

func newNode(p proxier) *node {
	return &node{proxier: p, services: map[string]*v1.Service{}, slices: map[string]*discovery.EndpointSlice{}}
}

type reference struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (n *node) apply(object json.RawMessage) error {
	var head struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(object, &head); err != nil {
		return err
	}
	switch head.Kind {
	case "Service":
		service := &v1.Service{}
		if err := json.Unmarshal(object, service); err != nil {
			return err
		}
		n.applyService(service)
	case "EndpointSlice":
		slice := &discovery.EndpointSlice{}
		if err := json.Unmarshal(object, slice); err != nil {
			return err
		}
		n.applySlice(slice)
	default:
		return fmt.Errorf("kind %q", head.Kind)
	}
	return nil
}

func (n *node) applyService(service *v1.Service) {
	key := service.Namespace + "/" + service.Name
	if old := n.services[key]; old != nil {
		n.proxier.OnServiceUpdate(old, service)
	} else {
		n.proxier.OnServiceAdd(service)
	}
	n.services[key] = service
}

func (n *node) applySlice(slice *discovery.EndpointSlice) {
	key := slice.Namespace + "/" + slice.Name
	if old := n.slices[key]; old != nil {
		n.proxier.OnEndpointSliceUpdate(old, slice)
	} else {
		n.proxier.OnEndpointSliceAdd(slice)
	}
	n.slices[key] = slice
}

func (n *node) remove(r reference) {
	key := r.Namespace + "/" + r.Name
	switch r.Kind {
	case "Service":
		if old := n.services[key]; old != nil {
			n.proxier.OnServiceDelete(old)
			delete(n.services, key)
		}
	case "EndpointSlice":
		if old := n.slices[key]; old != nil {
			n.proxier.OnEndpointSliceDelete(old)
			delete(n.slices, key)
		}
	}
}

// sync runs one sync now. The proxiers run one whenever they are told that a list is complete.
func (n *node) sync() {
	if !n.started {
		n.started = true
		n.proxier.OnEndpointSlicesSynced()
	}
	n.proxier.OnServiceSynced()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
