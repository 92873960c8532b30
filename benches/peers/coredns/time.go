package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

type input struct {
	Zones      []string          `json:"zones"`
	Namespaces []json.RawMessage `json:"namespaces"`
	Services   []json.RawMessage `json:"services"`
	Slices     []json.RawMessage `json:"slices"`
	Questions  map[string]struct {
		QName string `json:"qname"`
		QType string `json:"qtype"`
		Times int    `json:"times"`
	} `json:"questions"`
}

func (i *input) objects() []json.RawMessage {
	return append(append(append([]json.RawMessage{}, i.Namespaces...), i.Services...), i.Slices...)
}

func (i *input) config() *config {
	return &config{Zones: i.Zones, Pods: "disabled", TTL: 5, Serial: 1}
}

// each runs work on each file dns-N.json.
func each(dir string, work func(size string, i *input) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, "dns-*.json"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var i input
		if err := json.Unmarshal(text, &i); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		size := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "dns-"), ".json")
		if err := work(size, &i); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// packer makes the message of what is written to it, as CoreDNS's server does.
type packer struct {
	test.ResponseWriter
	length int
}

func (p *packer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 240, 0, 1), Port: 40212} }

func (p *packer) WriteMsg(m *dns.Msg) error {
	text, err := m.Pack()
	p.length = len(text)
	return err
}

// respond goes from the message with the question to the message with the answer.
func (s *server) respond(query []byte) (int, error) {
	m := new(dns.Msg)
	if err := m.Unpack(query); err != nil {
		return 0, err
	}
	p := &packer{}
	_, err := s.ServeDNS(context.Background(), request.NewScrubWriter(m, p), m)
	return p.length, err
}

// timeAll times, for each file: reading the cluster in, from the first request to the API server until all is there; and each question.
func timeAll(dir string, rounds int, out io.Writer) error {
	api, err := startAPI()
	if err != nil {
		return err
	}
	results := map[string][]float64{}
	err = each(dir, func(size string, i *input) error {
		add := func(work string, start time.Time, times int) {
			name := "dns/" + work + "/" + size
			results[name] = append(results[name], float64(time.Since(start).Nanoseconds())/float64(times))
		}
		for range rounds {
			// The API server's part of the work is its own.
			url, remove, err := api.add(i.objects())
			if err != nil {
				return err
			}
			start := time.Now()
			s, err := run(i.config(), url)
			if err != nil {
				return err
			}
			add("read in", start, 1)
			_ = s.APIConn.Stop()
			remove()
		}
		s, err := api.start(i.config(), i.objects())
		if err != nil {
			return err
		}
		defer s.stop()
		for work, question := range i.Questions {
			m := new(dns.Msg)
			m.SetQuestion(question.QName, dns.StringToType[question.QType])
			query, err := m.Pack()
			if err != nil {
				return err
			}
			if length, err := s.respond(query); err != nil || length == 0 {
				return fmt.Errorf("%s: %d bytes, %v", work, length, err)
			}
			for range rounds {
				start := time.Now()
				for range question.Times {
					_, _ = s.respond(query)
				}
				add(work, start, question.Times)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(results)
}

// heldAll tells how much larger the heap is, after a garbage collection, once the plugin has the cluster of each file.
func heldAll(dir string, out io.Writer) error {
	api, err := startAPI()
	if err != nil {
		return err
	}
	results := map[string]int64{}
	err = each(dir, func(size string, i *input) error {
		url, remove, err := api.add(i.objects())
		if err != nil {
			return err
		}
		defer remove()
		before := heap()
		s, err := run(i.config(), url)
		if err != nil {
			return err
		}
		results["dns/"+size] = heap() - before
		return s.APIConn.Stop()
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(results)
}

// heap is what is in use after everything unused has gone.
func heap() int64 {
	for range 3 {
		runtime.GC()
		time.Sleep(50 * time.Millisecond)
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
