package main

import (
	"context"
	"fmt"
	"time"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/cache"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync/common"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/tracing"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	trackingAnnotation = "argocd.argoproj.io/tracking-id"
	argoFieldManager   = "argocd-controller"
)

// Argo CD's engine, with one application in one namespace.
type argo struct {
	config    *rest.Config
	namespace string
	cache     cache.ClusterCache
	kubectl   *attentive
	scripts   luaHealth
}

// What kubectl learns of the cluster's kinds is kept from one step to the next: no kind changes while a judge sits, and
// each step would read and parse the schema of all of them again.
type attentive struct {
	*kube.KubectlCmd
	operations kube.ResourceOperations
}

func (k *attentive) ManageResources(config *rest.Config) (kube.ResourceOperations, func(), error) {
	if k.operations == nil {
		operations, _, err := k.KubectlCmd.ManageResources(config)
		if err != nil {
			return nil, nil, err
		}
		k.operations = operations
	}
	return k.operations, func() {}, nil
}

type tracked struct{ id string }

func newArgo(config *rest.Config, namespace string, scripts luaHealth) (*argo, error) {
	live := cache.NewClusterCache(config,
		cache.SetNamespaces([]string{namespace}),
		cache.SetLogr(logr.Discard()),
		cache.SetPopulateResourceInfoHandler(func(one *resource, _ bool) (any, bool) {
			id := one.GetAnnotations()[trackingAnnotation]
			return tracked{id}, id != ""
		}),
	)
	if err := live.EnsureSynced(); err != nil {
		return nil, err
	}
	return &argo{config, namespace, live, &attentive{KubectlCmd: &kube.KubectlCmd{Log: logr.Discard(), Tracer: tracing.NopTracer{}}}, scripts}, nil
}

// What the application is to be: Argo CD marks each object as its own.
func (a *argo) track(objects []*resource) []*resource {
	for _, one := range objects {
		marks := one.GetAnnotations()
		if marks == nil {
			marks = map[string]string{}
		}
		marks[trackingAnnotation] = a.id(kube.GetResourceKey(one))
		one.SetAnnotations(marks)
	}
	return objects
}

func (a *argo) id(key kube.ResourceKey) string {
	return fmt.Sprintf("%s:%s/%s:%s/%s", a.namespace, key.Group, key.Kind, key.Namespace, key.Name)
}

func (a *argo) owns(found *cache.Resource) bool {
	info, known := found.Info.(tracked)
	return known && info.id == a.id(found.ResourceKey())
}

type comparison struct {
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Modified bool   `json:"modified"` // OutOfSync
	Missing  bool   `json:"missing"`  // in Git, and not in the cluster
	Extra    bool   `json:"extra"`    // in the cluster, and not in Git any more
	Version  string `json:"version"`  // resourceVersion that was looked at
	Health   string `json:"health"`
	Live     string `json:"live,omitempty"` // of what differs
	Wanted   string `json:"wanted,omitempty"`
}

func (a *argo) compare(objects []*resource, how options) ([]comparison, error) {
	objects = a.track(objects)
	managed, err := a.cache.GetManagedLiveObjs(objects, a.owns)
	if err != nil {
		return nil, err
	}
	pairs := sync.Reconcile(objects, managed, a.namespace, a.cache)
	versions := make([]string, len(pairs.Live))
	for i, live := range pairs.Live {
		if live != nil {
			versions[i] = live.GetResourceVersion()
		}
	}
	comparing := []diff.Option{diff.WithLogr(logr.Discard())}
	if how.ServerSide {
		applier, cleanup, err := a.kubectl.ManageServerSideDiffDryRuns(a.config)
		if err != nil {
			return nil, err
		}
		defer cleanup()
		comparing = append(comparing, diff.WithServerSideDiff(true), diff.WithManager(argoFieldManager),
			diff.WithServerSideDryRunner(diff.NewK8sServerSideDryRunner(applier)), diff.WithIgnoreMutationWebhook(false))
	}
	found, err := diff.DiffArray(pairs.Target, pairs.Live, comparing...)
	if err != nil {
		return nil, err
	}
	said := make([]comparison, 0, len(found.Diffs))
	for i, result := range found.Diffs {
		target, live := pairs.Target[i], pairs.Live[i]
		shown := target
		if target == nil {
			shown = live
		}
		one := comparison{
			Kind: shown.GetKind(), Name: shown.GetName(), Modified: result.Modified,
			Missing: live == nil, Extra: target == nil, Version: versions[i],
		}
		if result.Modified {
			one.Live, one.Wanted = string(result.NormalizedLive), string(result.PredictedLive)
		}
		if live != nil {
			health, err := a.scripts.judge(live)
			if err != nil {
				return nil, err
			}
			one.Health = health.Status
		}
		said = append(said, one)
	}
	return said, nil
}

type synced struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

// One sync operation, with pruning, as Argo CD's controller carries it out: each step begins with the cluster as it is
// by then. It ends when every wave but the last is healthy, or by its time.
func (a *argo) sync(ctx context.Context, objects []*resource, how options) ([]synced, error) {
	objects = a.track(objects)
	phase, message, results, started := common.OperationRunning, "", []common.ResourceSyncResult(nil), metav1.Now()
	for {
		managed, err := a.cache.GetManagedLiveObjs(objects, a.owns)
		if err != nil {
			return nil, err
		}
		wanted := make([]*resource, len(objects))
		for i, one := range objects {
			wanted[i] = one.DeepCopy()
		}
		pairs := sync.Reconcile(wanted, managed, a.namespace, a.cache)
		step, cleanup, err := sync.NewSyncContext("revision", pairs, a.config, a.config, a.kubectl, a.namespace,
			sync.WithOperationSettings(false, true, how.Force, false),
			sync.WithInitialState(phase, message, results, started),
			sync.WithHealthOverride(a.scripts),
			sync.WithLogr(logr.Discard()),
			sync.WithReplace(how.Replace),
			sync.WithServerSideApply(how.ServerSide),
			sync.WithServerSideApplyManager(argoFieldManager),
		)
		if err != nil {
			return nil, err
		}
		step.Sync()
		phase, message, results = step.GetState()
		cleanup()
		if phase.Completed() {
			break
		}
		select {
		case <-ctx.Done():
			return told(results), fmt.Errorf("%s: %s", phase, message)
		case <-time.After(200 * time.Millisecond):
		}
	}
	if !phase.Successful() {
		return told(results), fmt.Errorf("%s: %s", phase, message)
	}
	return told(results), nil
}

func told(results []common.ResourceSyncResult) []synced {
	said := make([]synced, 0, len(results))
	for _, one := range results {
		said = append(said, synced{one.ResourceKey.Kind, one.ResourceKey.Name, string(one.Status), one.Message})
	}
	return said
}
