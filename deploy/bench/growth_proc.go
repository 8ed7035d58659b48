package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// The parts of a fleet: the replicas, and the servers by the names of their processes,
// which schematest starts.
const (
	replicas = "replicas"
	postgres = "postgres"
	redis    = "redis-server"
)

// serversCPU is the processor time that the PostgreSQL and the Redis of this process
// have used, by name, with their children that have ended. PostgreSQL has a process for
// each connection. Empty where there is no /proc.
func serversCPU() map[string]time.Duration {
	parents, all := map[int]int{}, map[int]procStat{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			if stat, ok := readStat(pid); ok {
				parents[pid], all[pid] = stat.parent, stat
			}
		}
	}
	used := map[string]time.Duration{}
	for pid, stat := range all {
		if (stat.name == postgres || stat.name == redis) && descends(parents, pid, os.Getpid()) {
			used[stat.name] += stat.cpu
		}
	}
	return used
}

func descends(parents map[int]int, pid, from int) bool {
	for pid > 1 && pid != from {
		pid = parents[pid]
	}
	return pid == from
}

// procStat is of /proc/PID/stat: see proc_pid_stat(5).
type procStat struct {
	name   string
	parent int
	cpu    time.Duration // in user and kernel mode, with that of children that have ended
}

func readStat(pid int) (procStat, bool) {
	const tick = time.Second / 100 // whatever the kernel's own is
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	begin, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	if err != nil || begin < 0 || end < begin {
		return procStat{}, false
	}
	stat := procStat{name: string(text[begin+1 : end])}
	fields := strings.Fields(string(text[end+1:])) // from the third on
	if len(fields) < 15 {
		return procStat{}, false
	}
	stat.parent, _ = strconv.Atoi(fields[1])
	for _, field := range fields[11:15] {
		ticks, _ := strconv.ParseInt(field, 10, 64)
		stat.cpu += time.Duration(ticks) * tick
	}
	return stat, true
}
