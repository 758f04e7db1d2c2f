// Command etcd is the store of the embedded control plane: the same entry
// point as the released binary, built from the pinned module.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
