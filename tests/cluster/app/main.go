// app stands for a microservice: it answers with its version, and can be made slow, faulty, never ready or short-lived.
// The version is what stands in /version; the settings come from the image's environment or, over it, the pod's:
//
//	START_DELAY_MS  before it listens (3000)            NEVER_READY=1   it listens, and tells probes 503
//	SLOW_MS         a request takes (5); ?sleep=MS too  READY_PATH      what probes ask for; without it kube-probe is known
//	ERROR_PERCENT   of requests answered 503 (0)        CRASH_AFTER_MS  it ends itself with 1 so long after its start
//	ADDR            where it listens (:9080)            GRACEFUL=1      SIGTERM lets requests in flight finish first
//	SAY             a text for its log, at its start    args: job [N]   no server: it takes N seconds and ends well
//
// Without GRACEFUL a SIGTERM ends it at once and cuts what is in flight: that is what most services do, and what a
// release has to be safe against.
package main

import (
	"context"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const gracefulLimit = 60 * time.Second

func number(text string, fallback int) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return fallback
}

func milliseconds(text string, fallback int) time.Duration {
	return time.Duration(number(text, fallback)) * time.Millisecond
}

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if len(os.Args) > 1 && os.Args[1] == "pause" { // the pod's sandbox
		<-stop
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "job" { // what a Job or an init container does: it takes a while, and ends well
		seconds := 0
		if len(os.Args) > 2 {
			seconds = number(os.Args[2], 0)
		}
		fmt.Printf("job of %d s\n", seconds)
		time.Sleep(time.Duration(seconds) * time.Second)
		return
	}
	version, _ := os.ReadFile("/version")
	addr := os.Getenv("ADDR")
	if addr == "" {
		addr = ":9080"
	}
	fmt.Printf("version %s starts\n%s", version, os.Getenv("SAY"))
	handler := &service{version: string(version), slow: number(os.Getenv("SLOW_MS"), 5),
		errorPercent: number(os.Getenv("ERROR_PERCENT"), 0), readyPath: os.Getenv("READY_PATH"), neverReady: os.Getenv("NEVER_READY") == "1"}
	handler.pod, _ = os.Hostname()
	server := &http.Server{Addr: addr, Handler: handler}
	failed := make(chan error, 2)
	if after := milliseconds(os.Getenv("CRASH_AFTER_MS"), 0); after > 0 {
		time.AfterFunc(after, func() { failed <- fmt.Errorf("crashes on purpose after %v", after) })
	}
	time.AfterFunc(milliseconds(os.Getenv("START_DELAY_MS"), 3000), func() {
		fmt.Printf("version %s serves on %s\n", version, addr)
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			failed <- err
		}
	})
	select {
	case err := <-failed:
		fmt.Printf("version %s failed: %v\n", version, err)
		os.Exit(1)
	case <-stop:
		fmt.Printf("version %s was told to stop with %d requests in flight\n", version, handler.open.Load())
		if os.Getenv("GRACEFUL") == "1" {
			limited, cancel := context.WithTimeout(context.Background(), gracefulLimit)
			defer cancel()
			_ = server.Shutdown(limited)
		}
	}
}

type service struct {
	version, pod, readyPath string
	slow, errorPercent      int
	neverReady              bool
	open                    atomic.Int64
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-app-version", s.version)
	w.Header().Set("x-pod", s.pod)
	if s.probe(r) {
		if s.neverReady {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	}
	s.open.Add(1)
	defer s.open.Add(-1)
	time.Sleep(milliseconds(r.URL.Query().Get("sleep"), s.slow))
	if rand.Intn(100) < s.errorPercent {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintf(w, "productpage %s\n", s.version)
}

// A faulty version must still look healthy to the kubelet, or it would never get traffic to fail on.
func (s *service) probe(r *http.Request) bool {
	if s.readyPath != "" {
		return r.URL.Path == s.readyPath
	}
	return strings.HasPrefix(r.UserAgent(), "kube-probe/")
}
