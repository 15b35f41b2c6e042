// load URL HOST RPS OUT [--slow-rps R --slow-ms MS] [--until-eof] sends GETs at a fixed rate, whether or not earlier
// ones have ended, until SIGTERM or for 30 minutes; --until-eof also ends it when its standard input closes, that is
// when whoever started it is gone. The slow requests come on top, with ?sleep=MS.
//
// OUT gets a line a request when that ends: start (ms since the epoch), status (or ERR, or BUSY when too many were open),
// version that answered or -, latency in ms, track that answered or -, fast|slow. A line "# MS" says that every request
// started before MS has its line above: it lets a reader know that a span of time is complete.
//
// Connections are kept and used again, as gateways and browsers do. A GET whose kept connection was closed under it
// before any answer is sent again by Go's client, as browsers do as well.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	longest    = 30 * time.Minute
	answerTime = 30 * time.Second
	flushEvery = 50 * time.Millisecond
	mostOpen   = 2000
	// 16 connections of 20 requests each live about 3 s at 100 requests a second.
	connections           = 16
	requestsPerConnection = 20
)

// Nothing but the cluster may be hit: a mistaken address would be somebody's real server.
var allowed = netip.MustParsePrefix("10.244.0.0/16")

type run struct {
	clients []*http.Client
	host    string

	lock  sync.Mutex
	lines *bufio.Writer
	open  map[int]int64 // number of each request in flight -> its start in ms
	sent  int
	ended sync.WaitGroup
}

func main() {
	if len(os.Args) < 5 {
		fail("usage: load URL HOST RPS OUT [--slow-rps R --slow-ms MS] [--until-eof]")
	}
	target, host, out := os.Args[1], os.Args[2], os.Args[4]
	rate, err := strconv.Atoi(os.Args[3])
	check(err)
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	slowRate := flags.Int("slow-rps", 0, "slow requests a second")
	slowMS := flags.Int("slow-ms", 2000, "how long a slow request takes")
	untilEOF := flags.Bool("until-eof", false, "stop when standard input closes")
	check(flags.Parse(os.Args[5:]))
	if *slowRate < 0 || rate < 0 || rate+*slowRate == 0 {
		fail("the rates must not be negative, and one of them must be above 0")
	}
	fast, slow := targets(target, *slowMS)
	file, err := os.Create(out)
	check(err)
	limit := answerTime + time.Duration(*slowMS)*time.Millisecond
	r := &run{clients: newClients(limit), host: host, lines: bufio.NewWriter(file), open: map[int]int64{}}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	if *untilEOF {
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	}
	var pacers sync.WaitGroup
	pacers.Go(func() { r.pace(ctx, rate, fast, "fast") })
	pacers.Go(func() { r.pace(ctx, *slowRate, slow, "slow") })
	done := make(chan struct{})
	go func() { pacers.Wait(); r.ended.Wait(); close(done) }()
	r.flushUntil(done)
	check(file.Close())
}

func targets(target string, slowMS int) (fast, slow string) {
	parsed, err := url.Parse(target)
	check(err)
	if address, err := netip.ParseAddr(parsed.Hostname()); err != nil || !address.IsLoopback() && !allowed.Contains(address) {
		fail(fmt.Sprintf("%q is not loopback and not in %s: load goes to the test cluster only; give the gateway's address", target, allowed))
	}
	query := parsed.Query()
	query.Set("sleep", strconv.Itoa(slowMS))
	sleepy := *parsed
	sleepy.RawQuery = query.Encode()
	return parsed.String(), sleepy.String()
}

// Each request has its own moment, reckoned from the start: a stall is made up for and the rate stays true.
func (r *run) pace(ctx context.Context, rate int, target, kind string) {
	if rate == 0 {
		return
	}
	began := time.Now()
	for n := 0; ; n++ {
		timer := time.NewTimer(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			r.send(target, kind)
		}
	}
}

func (r *run) send(target, kind string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	start, number := time.Now(), r.sent
	r.sent++
	if len(r.open) >= mostOpen {
		fmt.Fprintln(r.lines, start.UnixMilli(), "BUSY", "-", 0, "-", kind)
		return
	}
	r.open[number] = start.UnixMilli()
	r.ended.Go(func() {
		status, version, track := r.get(target, number)
		r.lock.Lock()
		defer r.lock.Unlock()
		delete(r.open, number)
		fmt.Fprintln(r.lines, start.UnixMilli(), status, version, time.Since(start).Milliseconds(), track, kind)
	})
}

// kube-proxy gives a connection to one gateway for its life. A few connections would leave to chance which gateways are tried,
// and a gateway that starts later would never be; so there are many, and each lives for some seconds.
func newClients(limit time.Duration) []*http.Client {
	clients := make([]*http.Client, connections)
	for n := range clients {
		clients[n] = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}, Timeout: limit}
	}
	return clients
}

func (r *run) get(target string, number int) (status, version, track string) {
	request, err := http.NewRequest(http.MethodGet, target, nil)
	check(err)
	request.Host = r.host
	request.Close = number/connections%requestsPerConnection == requestsPerConnection-1
	response, err := r.clients[number%connections].Do(request)
	if err != nil {
		return "ERR", "-", "-"
	}
	defer response.Body.Close()
	version, track = header(response, "x-app-version"), header(response, "x-canary-track")
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return "ERR", version, track
	}
	return strconv.Itoa(response.StatusCode), version, track
}

func header(response *http.Response, name string) string {
	if value := response.Header.Get(name); value != "" {
		return value
	}
	return "-"
}

func (r *run) flushUntil(done <-chan struct{}) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-ticker.C:
		}
		r.lock.Lock()
		oldest := time.Now().UnixMilli()
		for _, start := range r.open {
			oldest = min(oldest, start)
		}
		fmt.Fprintln(r.lines, "#", oldest)
		check(r.lines.Flush())
		r.lock.Unlock()
	}
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, "load:", text)
	os.Exit(2)
}
