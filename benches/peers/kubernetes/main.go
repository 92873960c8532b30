// Command peers runs Kubernetes' own code over the inputs that the libraries are tested and timed with.
//
//	peers play        one case a line on stdin, the same case with what Kubernetes makes of it a line on stdout
//	peers time DIR    times Kubernetes on the input files in DIR; prints nanoseconds as JSON
//	peers held DIR    what the proxiers hold in memory of the input files in DIR; prints bytes as JSON
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	quietLogs()
	rounds := flag.Int("rounds", 5, "rounds of each timing")
	only := flag.String("only", "", "time only what begins with this")
	flag.Parse()
	var err error
	switch {
	case flag.NArg() == 1 && flag.Arg(0) == "play":
		err = play(os.Stdin, os.Stdout)
	case flag.NArg() == 2 && flag.Arg(0) == "time":
		err = timeAll(flag.Arg(1), *rounds, *only, os.Stdout)
	case flag.NArg() == 2 && flag.Arg(0) == "held":
		err = heldAll(flag.Arg(1), os.Stdout)
	default:
		err = fmt.Errorf("usage: peers [-rounds N] [-only PREFIX] play | time DIR | held DIR")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}
