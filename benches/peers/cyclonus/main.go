// Command peers judges NetworkPolicies with the policy simulator of cyclonus.
//
//	peers play        one case a line on stdin, the same case with its verdicts a line on stdout
//	peers time DIR    times building and verdicts on DIR/netpol-*.json; prints nanoseconds as JSON
//	peers held DIR    what the policies of DIR/netpol-*.json hold in memory once built; prints bytes as JSON
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	v1 "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

type file struct {
	Source     string                      `json:"source"`
	Area       string                      `json:"area"`
	Namespaces []*v1.Namespace             `json:"namespaces"`
	Pods       []*v1.Pod                   `json:"pods"`
	Policies   []*networking.NetworkPolicy `json:"policies"`
	Cases      []flow                      `json:"cases"`
}

type flow struct {
	From     any         `json:"from"`
	To       any         `json:"to"`
	Port     int         `json:"port"`
	Protocol v1.Protocol `json:"protocol"`
	Ingress  string      `json:"ingress"`
	Egress   string      `json:"egress"`
	Verdict  string      `json:"verdict"`
}

// cluster is what a peer of traffic is looked up in.
type cluster struct {
	namespaces map[string]map[string]string
	pods       map[string]*v1.Pod
}

func (f *file) cluster() *cluster {
	c := &cluster{map[string]map[string]string{}, map[string]*v1.Pod{}}
	for _, namespace := range f.Namespaces {
		c.namespaces[namespace.Name] = namespace.Labels
	}
	for _, pod := range f.Pods {
		c.pods[pod.Namespace+"/"+pod.Name] = pod
	}
	return c
}

func (c *cluster) peer(end any) (*matcher.TrafficPeer, *v1.Pod, error) {
	switch end := end.(type) {
	case string:
		pod := c.pods[end]
		if pod == nil {
			return nil, nil, fmt.Errorf("no Pod %q", end)
		}
		return &matcher.TrafficPeer{
			Internal: &matcher.InternalPeer{
				PodLabels: pod.Labels, NamespaceLabels: c.namespaces[pod.Namespace], Namespace: pod.Namespace,
			},
			IP: pod.Status.PodIP,
		}, pod, nil
	case map[string]any:
		ip, _ := end["ip"].(string)
		return &matcher.TrafficPeer{IP: ip}, nil, nil
	}
	return nil, nil, fmt.Errorf("an end of traffic is %v", end)
}

func (c *cluster) traffic(f *flow) (*matcher.Traffic, error) {
	from, _, err := c.peer(f.From)
	if err != nil {
		return nil, err
	}
	to, pod, err := c.peer(f.To)
	if err != nil {
		return nil, err
	}
	traffic := &matcher.Traffic{Source: from, Destination: to, ResolvedPort: f.Port, Protocol: f.Protocol}
	if pod != nil {
		for _, container := range pod.Spec.Containers {
			for _, port := range container.Ports {
				if int(port.ContainerPort) == f.Port && port.Protocol == f.Protocol {
					traffic.ResolvedPortName = port.Name
				}
			}
		}
	}
	return traffic, nil
}

func playLine(line []byte) (played any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	var f file
	if err := json.Unmarshal(line, &f); err != nil {
		return nil, err
	}
	f.Source = "cyclonus v0.5.6, policy simulator"
	c := f.cluster()
	policies := matcher.BuildNetworkPolicies(false, f.Policies)
	for at := range f.Cases {
		traffic, err := c.traffic(&f.Cases[at])
		if err != nil {
			return nil, err
		}
		result := policies.IsTrafficAllowed(traffic)
		f.Cases[at].Ingress = word(result.Ingress.IsAllowed())
		f.Cases[at].Egress = word(result.Egress.IsAllowed())
		f.Cases[at].Verdict = word(result.IsAllowed())
	}
	return f, nil
}

func word(allowed bool) string {
	if allowed {
		return "allow"
	}
	return "deny"
}

// play answers each line with one line: the case played, or {"failed": "why"}.
func play(in io.Reader, out io.Writer) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	encoder := json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && err == io.EOF {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		played, err := playLine(line)
		if err != nil {
			played = map[string]string{"failed": err.Error()}
		}
		if err := encoder.Encode(played); err != nil {
			return err
		}
	}
}

func main() {
	rounds := flag.Int("rounds", 5, "rounds of each timing")
	flag.Parse()
	var err error
	switch {
	case flag.NArg() == 1 && flag.Arg(0) == "play":
		err = play(os.Stdin, os.Stdout)
	case flag.NArg() == 2 && flag.Arg(0) == "time":
		err = timeAll(flag.Arg(1), *rounds, os.Stdout)
	case flag.NArg() == 2 && flag.Arg(0) == "held":
		err = heldAll(flag.Arg(1), os.Stdout)
	default:
		err = fmt.Errorf("usage: peers [-rounds N] play | time DIR | held DIR")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}
