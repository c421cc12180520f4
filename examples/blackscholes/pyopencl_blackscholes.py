"""The example by PyOpenCL, for arrays that fit into one device's memory."""
import numpy as np
import pyopencl as cl
import pyopencl.array as cla
from pyopencl.elementwise import ElementwiseKernel

context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
prices = ElementwiseKernel(context, "double rate, double volatility, double *price, double *strike, double *years, double *call, double *put", """
    double spread = volatility * sqrt(years[i]);
    double d1 = (log(price[i] / strike[i]) + (rate + volatility*volatility/2)*years[i]) / spread;
    double d2 = d1 - spread;
    double later = strike[i] * exp(-rate * years[i]);
    double n1 = erfc(-d1 * M_SQRT1_2) / 2, n2 = erfc(-d2 * M_SQRT1_2) / 2;
    call[i] = price[i]*n1 - later*n2;
    put[i] = later*(1 - n2) - price[i]*(1 - n1)""", "prices")
N = 1_000_000
price, strike, years = np.full(N, 100.0), 50 + 100*np.arange(N) / N, np.full(N, 0.5)
inputs = [cla.to_device(queue, a) for a in (price, strike, years)]
call, put = cla.empty_like(inputs[0]), cla.empty_like(inputs[0])
prices(0.02, 0.3, *inputs, call, put)
call, put = call.get(), put.get()
for i in range(0, N, N // 5):
    print(f"strike {strike[i]:5.1f}: call {call[i]:6.3f}, put {put[i]:6.3f}")
