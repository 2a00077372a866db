package main

import (
	"cmp"
	"html/template"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
)

// shop answers requests.
type shop struct {
	config             string // a directory: greeting, items (one a line)
	store              *store
	pod, node, release string
	draining           atomic.Bool
}

// item is one line of the page.
type item struct {
	Name string
	Sold int64
}

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<title>{{.Greeting}}</title>
<h1>{{.Greeting}}</h1>
{{with .Problem}}<p>The store is away: {{.}}</p>
{{end -}}
<table>
{{range .Items}}<tr><td>{{.Name}}</td><td>sold {{.Sold}}</td><td><form method="post" action="/buy"><button name="item" value="{{.Name}}">buy</button></form></td></tr>
{{end}}</table>
<p>release {{.Release}}, pod {{.Pod}}, node {{.Node}}</p>
`))

func (s *shop) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.front)
	mux.HandleFunc("POST /buy", s.buy)
	mux.HandleFunc("GET /healthz", s.healthz)
	return s.politely(mux)
}

// politely asks clients that keep connections open to leave while the server drains.
func (s *shop) politely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// healthz is the readiness probe. It says nothing of the store: a page without counters is better than none.
func (s *shop) healthz(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ok\n"))
}

func (s *shop) front(w http.ResponseWriter, r *http.Request) {
	view := struct {
		Greeting, Problem, Release, Pod, Node string
		Items                                 []item
	}{Greeting: s.read("greeting", "A shop"), Release: s.release, Pod: s.pod, Node: s.node}
	sold, err := s.store.counters(r.Context())
	if err != nil {
		view.Problem = err.Error()
	}
	for _, name := range s.items() {
		view.Items = append(view.Items, item{name, sold[name]})
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := page.Execute(w, view); err != nil {
		log.Print("page: ", err)
	}
}

func (s *shop) buy(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("item")
	if !slices.Contains(s.items(), name) {
		http.Error(w, "no such item", http.StatusNotFound)
		return
	}
	n, err := s.store.add(r.Context(), name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	log.Printf("sold %s, %d so far", name, n)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *shop) items() []string { return strings.Fields(s.read("items", "")) }

func (s *shop) read(name, otherwise string) string {
	b, err := os.ReadFile(filepath.Join(s.config, name))
	if err != nil {
		log.Print(err)
	}
	return cmp.Or(strings.TrimSpace(string(b)), otherwise)
}
