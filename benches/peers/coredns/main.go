// Command peers answers DNS questions with CoreDNS's kubernetes plugin.
//
//	peers play        one case a line on stdin, the same case with CoreDNS's answers a line on stdout
//	peers time DIR    times answers on DIR/dns-*.json; prints nanoseconds as JSON
//	peers held DIR    what the plugin holds in memory of DIR/dns-*.json; prints bytes as JSON
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

func main() {
	clog.Discard()
	log.SetOutput(io.Discard)
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
