package main

import (
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() {}
