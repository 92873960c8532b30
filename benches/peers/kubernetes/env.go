package main

import (
	"encoding/json"
	"math/rand"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
)

type envFile struct {
	Source string    `json:"source"`
	Area   string    `json:"area"`
	Cases  []envCase `json:"cases"`
}

type envCase struct {
	Name               string              `json:"name,omitempty"`
	Services           []*v1.Service       `json:"services"`
	Namespace          string              `json:"namespace"`
	EnableServiceLinks bool                `json:"enableServiceLinks"`
	Expect             map[string]string   `json:"expect"`
	Open               map[string][]string `json:"open,omitempty"`
}

// servicesFor chooses the Services that a Pod of the namespace is told of, as the kubelet does (getServiceEnvVarMap of
// pkg/kubelet/kubelet_pods.go, a package too large to depend on): those of the namespace, and the API server's.
func servicesFor(services []*v1.Service, namespace string, links bool) []*v1.Service {
	chosen := map[string]*v1.Service{}
	for _, service := range services {
		if service.Spec.ClusterIP == "" || service.Spec.ClusterIP == v1.ClusterIPNone {
			continue
		}
		if service.Namespace == v1.NamespaceDefault && service.Name == "kubernetes" {
			if _, exists := chosen[service.Name]; !exists {
				chosen[service.Name] = service
			}
		} else if service.Namespace == namespace && links {
			chosen[service.Name] = service
		}
	}
	list := make([]*v1.Service, 0, len(chosen))
	for _, service := range chosen {
		list = append(list, service)
	}
	return list
}

// playEnv plays each case many times with the Services in another order: the kubelet's map has none.
func playEnv(line []byte) (any, error) {
	var file envFile
	if err := json.Unmarshal(line, &file); err != nil {
		return nil, err
	}
	file.Source = version + " kubelet, envvars.FromServices"
	for at := range file.Cases {
		c := &file.Cases[at]
		seen := map[string]map[string]bool{}
		for range 32 {
			services := servicesFor(c.Services, c.Namespace, c.EnableServiceLinks)
			rand.Shuffle(len(services), func(a, b int) { services[a], services[b] = services[b], services[a] })
			c.Expect = map[string]string{}
			for _, variable := range envvars.FromServices(services) {
				c.Expect[variable.Name] = variable.Value
			}
			for name, value := range c.Expect {
				if seen[name] == nil {
					seen[name] = map[string]bool{}
				}
				seen[name][value] = true
			}
		}
		c.Open = map[string][]string{}
		for name, values := range seen {
			if len(values) > 1 {
				c.Open[name] = slices.Clone(sortedKeys(values))
			}
		}
	}
	return file, nil
}
