package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
)

func TestMetricOfCommand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script string
		byPod        bool
		want         map[string]int64
		wrong        string
	}{
		{"a number", `echo 12.5`, false, map[string]int64{"": 12500}, ""},
		{"a quantity", `echo 2k`, false, map[string]int64{"": 2000000}, ""},
		{"nothing", ``, false, nil, `it answers "", which is no number`},
		{"a word", `echo many`, false, nil, `it answers "many", which is no number`},
		{"less than nothing", `echo -1`, false, nil, "less than nothing"},
		{"by pod", "echo web-1 3; echo; echo web-2 500m", true, map[string]int64{"web-1": 3000, "web-2": 500}, ""},
		{"a pod twice", "echo web-1 3; echo web-1 4", true, nil, "pod web-1 is there twice"},
		{"not by pod", "echo 3", true, nil, `line "3" is not the name of a pod and a number`},
		{"it fails", "echo oh no >&2; exit 3", false, nil, "exit status 3: oh no"},
		{"what it is told", `[ "$BERTH_METRIC $BERTH_NAMESPACE $BERTH_TARGET $BERTH_OBJECT" = "m default deployment.web Service/web" ] && echo 1`, false, map[string]int64{"": 1000}, ""},
		{"where it runs", `echo $(($(ls | wc -l) + 0))`, false, map[string]int64{"": 1000}, ""},
		{"too long", `yes 1`, false, nil, "it prints more than 1048576 bytes"},
		{"too slow", `sleep 60 & sleep 60`, false, nil, "no answer within 1s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "ask"), []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil { //nolint:gosec // a program
				t.Fatal(err)
			}
			m := &metricSources{dir: dir, env: os.Environ()}
			source := &api.MetricSource{Name: "m", Command: []string{"./ask"}}
			if tt.wrong == "no answer within 1s" {
				source.TimeoutSeconds = 1
			}
			began := time.Now()
			got, err := m.ask(t.Context(), metricQuestion{source: source, namespace: "default", target: "deployment.web", object: "Service/web", byPod: tt.byPod})
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Errorf("error %v, want %q", err, tt.wrong)
				}
				if time.Since(began) > 30*time.Second {
					t.Error("it was waited for until it had ended")
				}
				return
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestMetricOfPrometheus(t *testing.T) {
	t.Parallel()
	vector := func(series ...string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(series, ",") + `]}}`
	}
	series := func(labels, value string) string {
		return `{"metric":{` + labels + `},"value":[1700000000.123,"` + value + `"]}`
	}
	mail, err := labels.Parse("queue=mail")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, answer string
		question     metricQuestion
		want         map[string]int64
		wrong        string
	}{
		{"series are added up", vector(series(`"queue":"mail"`, "3.5"), series(`"queue":"other"`, "4")), metricQuestion{}, map[string]int64{"": 7500}, ""},
		{"those that are selected", vector(series(`"queue":"mail"`, "3.5"), series(`"queue":"other"`, "4")), metricQuestion{selector: mail}, map[string]int64{"": 3500}, ""},
		{"a scalar", `{"status":"success","data":{"resultType":"scalar","result":[1700000000,"6"]}}`, metricQuestion{}, map[string]int64{"": 6000}, ""},
		{"a scalar has no pods", `{"status":"success","data":{"resultType":"scalar","result":[1700000000,"6"]}}`, metricQuestion{byPod: true}, nil, "a number without labels"},
		{"by pod, of this namespace", vector(series(`"pod":"web-1","namespace":"default"`, "1"), series(`"pod":"web-1"`, "2"), series(`"pod":"web-2","namespace":"other"`, "3"), series(``, "9")),
			metricQuestion{byPod: true}, map[string]int64{"web-1": 3000}, ""},
		{"nothing", vector(), metricQuestion{}, nil, "answers nothing that counts here"},
		{"no number", vector(series(``, "NaN")), metricQuestion{}, nil, "which is no number"},
		{"endless", vector(series(``, "+Inf")), metricQuestion{}, nil, "which is no number"},
		{"over time", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, metricQuestion{}, nil, "it has to answer an instant vector or a scalar"},
		{"an error", `{"status":"error","errorType":"bad_data","error":"parse error at char 3"}`, metricQuestion{}, nil, "parse error at char 3"},
		{"no JSON", `<html>`, metricQuestion{}, nil, "prometheus at http"},
		{"too long", vector(series(`"x":"`+strings.Repeat("x", api.MetricOutputLimit)+`"`, "1")), metricQuestion{}, nil, "more than 1048576 bytes"},
		{"elsewhere", "redirect", metricQuestion{}, nil, "prometheus at http"},
		{"silence", "wait", metricQuestion{}, nil, "no answer within 1s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				t.Errorf("the token went elsewhere: %v", r.Header)
			}))
			defer elsewhere.Close()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.FormValue("query") != "sum(x)" || r.URL.Path != "/prom/api/v1/query" || r.Header.Get("Authorization") != "Bearer s3cret":
					http.Error(w, "no", http.StatusTeapot)
				case tt.answer == "redirect":
					http.Redirect(w, r, elsewhere.URL, http.StatusFound)
				case tt.answer == "wait":
					<-r.Context().Done()
				default:
					if strings.Contains(tt.answer, `"error"`) {
						w.WriteHeader(http.StatusBadRequest)
					}
					fmt.Fprint(w, tt.answer)
				}
			}))
			defer server.Close()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "token"), []byte("s3cret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			q := tt.question
			q.namespace = "default"
			q.source = &api.MetricSource{Name: "m", Prometheus: &api.PrometheusQuery{URL: server.URL + "/prom", Query: "sum(x)", BearerTokenFile: "token"}}
			if tt.answer == "wait" {
				q.source.TimeoutSeconds = 1
			}
			got, err := (&metricSources{dir: dir}).ask(t.Context(), q)
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("error %v, want %q", err, tt.wrong)
				}
				return
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%v, %v; want %v", got, err, tt.want)
			}
		})
	}
}
