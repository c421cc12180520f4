module github.com/gpurun/gpurun

go 1.26
