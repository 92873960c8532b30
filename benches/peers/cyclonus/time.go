package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
)

// each runs work on each file netpol-N.json.
func each(dir string, work func(size string, f *file) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, "netpol-*.json"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var f file
		if err := json.Unmarshal(text, &f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := work(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "netpol-"), ".json"), &f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// timeAll times, for each file: building the policies, alone and with the tables that a Pod's labels are looked up in; and judging the
// file's cases one by one.
func timeAll(dir string, rounds int, out io.Writer) error {
	results := map[string][]float64{}
	err := each(dir, func(size string, f *file) error {
		add := func(work string, start time.Time, times int) {
			name := "netpol/" + work + "/" + size
			results[name] = append(results[name], float64(time.Since(start).Nanoseconds())/float64(times))
		}
		var c *cluster
		var policies *matcher.Policy
		for range rounds {
			start := time.Now()
			policies = matcher.BuildNetworkPolicies(false, f.Policies)
			add("build, policies alone", start, 1)
		}
		for range rounds {
			start := time.Now()
			c, policies = f.cluster(), matcher.BuildNetworkPolicies(false, f.Policies)
			add("build", start, 1)
		}
		traffic := make([]*matcher.Traffic, 0, len(f.Cases))
		for at := range f.Cases {
			one, err := c.traffic(&f.Cases[at])
			if err != nil {
				return err
			}
			traffic = append(traffic, one)
		}
		for range rounds {
			start := time.Now()
			for _, one := range traffic {
				policies.IsTrafficAllowed(one)
			}
			add("verdict", start, len(traffic))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(results)
}

// heldAll tells how much larger the heap is, after a garbage collection, once the policies of each file are built.
func heldAll(dir string, out io.Writer) error {
	results := map[string]int64{}
	err := each(dir, func(size string, f *file) error {
		before := heap()
		policies := matcher.BuildNetworkPolicies(false, f.Policies)
		results["netpol, policies alone/"+size] = heap() - before
		runtime.KeepAlive(policies)
		runtime.KeepAlive(f)
		return nil
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
