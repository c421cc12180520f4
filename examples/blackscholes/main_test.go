package main

import (
	"math"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m) }

// TestParity holds prices against each other, as no formula for either can change that: a call
// less a put is worth the underlying less what the strike is worth now. One price is from a table.
func TestParity(t *testing.T) {
	kerneltest.Everywhere(t, func(t *testing.T, config *gpurun.Config) {
		var price, strike, years []float64
		for i := range 5000 {
			price, strike, years = append(price, 20+float64(i%71)), append(strike, 15+float64(i%97)), append(years, 0.1+float64(i%13)/4)
		}
		price[0], strike[0], years[0] = 42, 40, 0.5
		call, put, err := run(price, strike, years, config)
		if err != nil {
			t.Fatal(err)
		}
		for i := range call {
			if want := price[i] - strike[i]*math.Exp(-rate*years[i]); math.Abs(call[i]-put[i]-want) > 1e-10 || call[i] < 0 || put[i] < -1e-12 {
				t.Fatalf("%d: call %v, put %v", i, call[i], put[i])
			}
		}
		// Integrated over the logarithm of the price at the end, in steps of a thousandth of its
		// deviation.
		sum, spread := 0.0, volatility*math.Sqrt(0.5)
		for u := -9.0; u < 9; u += 0.001 {
			end := 42 * math.Exp((rate-volatility*volatility/2)*0.5+spread*u)
			sum += 0.001 * math.Exp(-u*u/2) / math.Sqrt(2*math.Pi) * max(0, end-40)
		}
		if want := sum * math.Exp(-rate*0.5); math.Abs(call[0]-want) > 1e-5 {
			t.Errorf("the call is worth %v, want %v", call[0], want)
		}
	})
}
