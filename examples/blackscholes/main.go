// Blackscholes prices European options by the formula of F. Black and M. Scholes (1973).
package main

import (
	"context"
	"fmt"
	"log"
	"math"

	"github.com/gpurun/gpurun"
)

const rate, volatility = 0.02, 0.3 // a year

// prices are those of a call and of a put, of an underlying at price, to be exercised at strike
// in so many years.
var prices = gpurun.Elementwise(`
double spread = volatility * sqrt(years);
double d1 = (log(price / strike) + (rate + volatility*volatility/2)*years) / spread;
double d2 = d1 - spread;
double later = strike * exp(-rate * years);
double n1 = erfc(-d1 * M_SQRT1_2) / 2, n2 = erfc(-d2 * M_SQRT1_2) / 2;
call = price*n1 - later*n2;
put = later*(1 - n2) - price*(1 - n1);`, func(p *gpurun.Part) error {
	price, strike, years := gpurun.Elements[float64](p, "price"), gpurun.Elements[float64](p, "strike"), gpurun.Elements[float64](p, "years")
	call, put := gpurun.Elements[float64](p, "call"), gpurun.Elements[float64](p, "put")
	for i := range call {
		spread := volatility * math.Sqrt(years[i])
		d1 := (math.Log(price[i]/strike[i]) + (rate+volatility*volatility/2)*years[i]) / spread
		later := strike[i] * math.Exp(-rate*years[i])
		n1, n2 := math.Erfc(-d1*math.Sqrt2/2)/2, math.Erfc(-(d1-spread)*math.Sqrt2/2)/2
		call[i] = price[i]*n1 - later*n2
		put[i] = later*(1-n2) - price[i]*(1-n1)
	}
	return nil
}).Register("gpurun/examples/blackscholes")

func main() {
	const n = 1_000_000
	price, strike, years := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range price {
		price[i], strike[i], years[i] = 100, 50+100*float64(i)/n, 0.5
	}
	call, put, err := run(price, strike, years, &gpurun.Config{Devices: []string{"all"}})
	if err != nil {
		log.Fatal(err)
	}
	for i := 0; i < n; i += n / 5 {
		fmt.Printf("strike %5.1f: call %6.3f, put %6.3f\n", strike[i], call[i], put[i])
	}
}

func run(price, strike, years []float64, config *gpurun.Config) (call, put []float64, err error) {
	ctx := context.Background()
	eng, err := gpurun.Open(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	defer eng.Close()
	call, put = make([]float64, len(price)), make([]float64, len(price))
	err = eng.Run(ctx, prices, gpurun.Value("rate", rate), gpurun.Value("volatility", volatility),
		gpurun.In("price", price), gpurun.In("strike", strike), gpurun.In("years", years), gpurun.Out("call", call), gpurun.Out("put", put))
	return call, put, err
}
