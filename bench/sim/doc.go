// Package sim runs the queue of package dist, as it is, with thousands of devices, on the
// clock of testing/synctest, which goes on whenever all wait: devices that only sleep take
// minutes of that clock in as many seconds of a processor. As that clock is for tests
// alone, so is all of this package.
//
// TestScale prints makespan ÷ ideal and what else scales, TestPlots plots it, and
// BenchmarkSessions measures what hosts take of a coordinator's memory and processor, with
// another process as hosts. docs/scale.md tells what came out.
//
//	go test ./bench/sim -run '^TestScale$' -v -timeout 2h -scale 10,100,1000,10000 -seconds 120 -folder $PWD
//	go test ./bench/sim -run '^TestPlots$' -folder $PWD
//	go test ./bench/sim -run '^$' -bench Sessions -benchtime 1x
package sim
