package main

import (
	"context"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/cli-utils/pkg/object"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	fluxController = "kustomize-controller"
	fluxGroup      = "kustomize.toolkit.fluxcd.io"
)

// What Flux's kustomize-controller applies and waits with, with its settings, for one Kustomization.
type flux struct {
	manager   *ssa.ResourceManager
	namespace string
}

func newFlux(config *rest.Config, namespace string) (*flux, error) {
	made, err := client.New(config, client.Options{})
	if err != nil {
		return nil, err
	}
	poller := polling.NewStatusPoller(made, made.RESTMapper(), polling.Options{})
	manager := ssa.NewResourceManager(made, poller, ssa.Owner{Field: fluxController, Group: fluxGroup})
	return &flux{manager, namespace}, nil
}

func (f *flux) settings(how options) ssa.ApplyOptions {
	settings := ssa.DefaultApplyOptions()
	settings.Force = how.Force
	settings.ExclusionSelector = map[string]string{fluxGroup + "/reconcile": "disabled", fluxGroup + "/ssa": "Ignore"}
	settings.IfNotPresentSelector = map[string]string{fluxGroup + "/ssa": "IfNotPresent"}
	settings.ForceSelector = map[string]string{fluxGroup + "/force": "enabled"}
	// It undoes what kubectl has changed under kubectl's own name.
	settings.Cleanup = ssa.ApplyCleanupOptions{
		Annotations: []string{corev1.LastAppliedConfigAnnotation},
		FieldManagers: []ssa.FieldManager{
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationApply},
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: "before-first-apply", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: fluxController, OperationType: metav1.ManagedFieldsOperationUpdate},
		},
		Exclusions: map[string]string{fluxGroup + "/ssa": "Merge"},
	}
	return settings
}

// Apply what differs; says of each object what was done.
func (f *flux) apply(ctx context.Context, objects []*resource, how options) (map[string]string, error) {
	if err := normalize.UnstructuredList(objects); err != nil {
		return nil, err
	}
	f.manager.SetOwnerLabels(objects, f.namespace, f.namespace)
	changes, err := f.manager.ApplyAllStaged(ctx, objects, f.settings(how))
	return done(changes), err
}

// Delete what is no longer in Git.
func (f *flux) prune(ctx context.Context, objects []*resource) (map[string]string, error) {
	settings := ssa.DefaultDeleteOptions()
	settings.Inclusions = f.manager.GetOwnerLabels(f.namespace, f.namespace)
	settings.Exclusions = map[string]string{fluxGroup + "/prune": "disabled", fluxGroup + "/reconcile": "disabled"}
	changes, err := f.manager.DeleteAll(ctx, objects, settings)
	return done(changes), err
}

// Wait as a Kustomization with `wait: true`, as others depend on; fails with what is not current in time.
func (f *flux) wait(ctx context.Context, objects []*resource, timeout time.Duration) (map[string]string, error) {
	set := object.UnstructuredSetToObjMetadataSet(objects)
	settings := ssa.WaitOptions{Interval: 200 * time.Millisecond, Timeout: timeout, FailFast: true}
	return map[string]string{}, f.manager.WaitForSetWithContext(ctx, set, settings)
}

func done(changes *ssa.ChangeSet) map[string]string {
	found := map[string]string{}
	if changes != nil {
		for _, entry := range changes.Entries {
			found[entry.ObjMetadata.GroupKind.Kind+"/"+entry.ObjMetadata.Name] = string(entry.Action)
		}
	}
	return found
}
