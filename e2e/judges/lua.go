package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

// Health scripts by group and kind, run as Argo CD runs those of its ConfigMap: without Lua's standard library but for
// its base and tables, and for a second at most.
type luaHealth map[string]string

func readScripts(directory string) (luaHealth, error) {
	found := luaHealth{}
	paths, err := filepath.Glob(filepath.Join(directory, "*", "*", "health.lua"))
	if err != nil || directory == "" {
		return found, err
	}
	for _, file := range paths {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		kind := filepath.Dir(file)
		found[filepath.Base(filepath.Dir(kind))+"/"+filepath.Base(kind)] = string(text)
	}
	return found, nil
}

// A kind's own script, or one whose directory has _ where Argo CD reads a wildcard.
func (l luaHealth) script(kind string) string {
	if script, known := l[kind]; known {
		return script
	}
	for pattern, script := range l {
		if fits, _ := path.Match(strings.ReplaceAll(pattern, "_", "*"), kind); fits {
			return script
		}
	}
	return ""
}

// GetResourceHealth is asked by the GitOps engine; nothing is said of kinds without a script.
func (l luaHealth) GetResourceHealth(one *resource) (*health.HealthStatus, error) {
	script := l.script(one.GroupVersionKind().Group + "/" + one.GetKind())
	if script == "" {
		return nil, nil
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		call := lua.P{Fn: state.NewFunction(open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(name)); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", luajson.DecodeValue(state, plain(one.Object)))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	answer := state.Get(-1)
	if answer.Type() != lua.LTTable {
		return nil, fmt.Errorf("the health script returned a %s", answer.Type())
	}
	text, err := luajson.Encode(answer)
	if err != nil {
		return nil, err
	}
	var said health.HealthStatus
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, err
	}
	return &said, nil
}

func (l luaHealth) judge(one *resource) (verdict, error) {
	said, err := health.GetResourceHealth(one, l)
	if err != nil || said == nil {
		return verdict{}, err
	}
	return verdict{string(said.Status), said.Message}, nil
}

// Values as JSON has them: what comes from the cluster holds 64 bit integers, which the decoder does not know.
func plain(value any) any {
	switch value := value.(type) {
	case map[string]any:
		found := make(map[string]any, len(value))
		for key, inner := range value {
			found[key] = plain(inner)
		}
		return found
	case []any:
		found := make([]any, len(value))
		for i, inner := range value {
			found[i] = plain(inner)
		}
		return found
	case int64:
		return float64(value)
	}
	return value
}
