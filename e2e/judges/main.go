// Judges of our objects that nobody here wrote, for the tests: Flux's kstatus and its server-side apply, Argo CD's
// GitOps engine, and Argo CD's interpreter of Lua health checks.
//
// It reads one request in JSON from each line of its input and answers each with one line. It ends with its input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	exact "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	controllerruntime "sigs.k8s.io/controller-runtime"
)

type resource = unstructured.Unstructured

// A request; which fields count depends on the judge that is asked.
type request struct {
	Judge   string           `json:"judge"`
	Objects []map[string]any `json:"objects"`
	Seconds float64          `json:"seconds"` // how long it may take
	Options options          `json:"options"`
}

type options struct {
	ServerSide bool `json:"serverSide"` // Argo CD: apply and compare on the server
	Replace    bool `json:"replace"`    // Argo CD: the sync option Replace=true
	Force      bool `json:"force"`      // both: delete and create what cannot be updated
}

func (r request) objects() []*resource {
	found := make([]*resource, 0, len(r.Objects))
	for _, content := range r.Objects {
		found = append(found, &resource{Object: content})
	}
	return found
}

// The judges that need a cluster are made when they are first asked.
type bench struct {
	kubeconfig, namespace string
	scripts               luaHealth
	argo                  *argo
	flux                  *flux
}

func (b *bench) answer(ctx context.Context, asked request) (any, error) {
	switch asked.Judge {
	case "kstatus":
		return each(asked.objects(), func(one *resource) (verdict, error) {
			found, err := status.Compute(one)
			if err != nil {
				return verdict{}, err
			}
			return verdict{string(found.Status), found.Message}, nil
		})
	case "health":
		return each(asked.objects(), b.scripts.judge)
	case "argo-compare", "argo-sync":
		if b.argo == nil {
			config, err := b.config()
			if err != nil {
				return nil, err
			}
			if b.argo, err = newArgo(config, b.namespace, b.scripts); err != nil {
				return nil, err
			}
		}
		if asked.Judge == "argo-sync" {
			return b.argo.sync(ctx, asked.objects(), asked.Options)
		}
		return b.argo.compare(asked.objects(), asked.Options)
	case "flux-apply", "flux-wait", "flux-prune":
		if b.flux == nil {
			config, err := b.config()
			if err != nil {
				return nil, err
			}
			if b.flux, err = newFlux(config, b.namespace); err != nil {
				return nil, err
			}
		}
		switch asked.Judge {
		case "flux-apply":
			return b.flux.apply(ctx, asked.objects(), asked.Options)
		case "flux-prune":
			return b.flux.prune(ctx, asked.objects())
		}
		return b.flux.wait(ctx, asked.objects(), seconds(asked.Seconds))
	}
	return nil, fmt.Errorf("no such judge: %q", asked.Judge)
}

func (b *bench) config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", b.kubeconfig)
	if err == nil {
		config.QPS, config.Burst = 500, 1000
	}
	return config, err
}

// What a judge says of one object.
type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func each(objects []*resource, judge func(*resource) (verdict, error)) ([]verdict, error) {
	found := make([]verdict, 0, len(objects))
	for _, one := range objects {
		said, err := judge(one)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", one.GetKind(), one.GetName(), err)
		}
		found = append(found, said)
	}
	return found, nil
}

func seconds(count float64) time.Duration {
	return time.Duration(count * float64(time.Second))
}

func main() {
	// A set of its own: a library that is linked has an option --kubeconfig in the common one.
	flags := flag.NewFlagSet("judges", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "the cluster of the judges that apply")
	namespace := flags.String("namespace", "", "where they apply")
	customizations := flags.String("customizations", "", "directory of <group>/<Kind>/health.lua")
	_ = flags.Parse(os.Args[1:])
	klog.SetLogger(logr.Discard())
	controllerruntime.SetLogger(logr.Discard())
	scripts, err := readScripts(*customizations)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	judges := &bench{kubeconfig: *kubeconfig, namespace: *namespace, scripts: scripts}
	lines := bufio.NewReader(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var asked request
		answer := map[string]any{}
		if err := exact.Unmarshal(line, &asked); err != nil {
			answer["error"] = err.Error()
		} else {
			ctx, cancel := context.WithTimeout(context.Background(), seconds(asked.Seconds))
			said, err := judges.answer(ctx, asked)
			cancel()
			answer["said"] = said
			if err != nil {
				answer["error"] = err.Error()
			}
		}
		if answers.Encode(answer) != nil {
			return
		}
	}
}
