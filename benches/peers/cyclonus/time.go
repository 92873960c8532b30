package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
)

// timeAll times, for each file netpol-N.json: building the policies, and judging the file's cases one by one.
func timeAll(dir string, rounds int, out io.Writer) error {
	paths, err := filepath.Glob(filepath.Join(dir, "netpol-*.json"))
	if err != nil {
		return err
	}
	results := map[string][]float64{}
	for _, path := range paths {
		size := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "netpol-"), ".json")
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var f file
		if err := json.Unmarshal(text, &f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		c := f.cluster()
		var policies *matcher.Policy
		for range rounds {
			start := time.Now()
			policies = matcher.BuildNetworkPolicies(false, f.Policies)
			results["netpol/build/"+size] = append(results["netpol/build/"+size], float64(time.Since(start).Nanoseconds()))
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
			each := float64(time.Since(start).Nanoseconds()) / float64(len(traffic))
			results["netpol/verdict/"+size] = append(results["netpol/verdict/"+size], each)
		}
	}
	return json.NewEncoder(out).Encode(results)
}
