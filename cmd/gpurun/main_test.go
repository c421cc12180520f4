package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testca"
	"github.com/gpurun/gpurun/internal/testenv"
)

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"gpurun": func() { os.Exit(gpurunMain()) },
	})
}

// leakChecked runs the tests and then looks for goroutines that they left.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		println(err.Error())
		return 1
	}
	return code
}

// TestScripts runs the command as a user would; each file of testdata tells
// what it should do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GPURUN_CACHE", filepath.Join(env.WorkDir, "cache"))
			// Where the system's drivers are registered is for the scripts to say.
			for _, name := range []string{"HOME", "OCL_ICD_VENDORS", "POCL_DEVICES"} {
				if value, ok := os.LookupEnv(name); ok {
					env.Setenv(name, value)
				}
			}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "opencl":
				return hasOpenCL(t), nil
			case "openssl":
				return hasOpenSSL(t), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"certificates": makeCertificates(t),
			"npyshape":     checkNPY,
			"npymatrix":    makeMatrix,
			"npyproduct":   checkProduct,
		},
		RequireExplicitExec: true,
	})
}

// makeCertificates returns a command of scripts. It makes a folder with an
// authority, ca.pem, and with its certificates for localhost and 127.0.0.1:
// cert.pem with key.pem, and expired.pem with expired.key.
func makeCertificates(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: certificates FOLDER")
		}
		dir := ts.MkAbs(args[0])
		ts.Check(os.Mkdir(dir, 0o755))
		a := testca.New(t)
		cert, key := a.Sign(nil)
		expired, expiredKey := a.Sign(testca.Expired)
		for from, to := range map[string]string{
			a.File: "ca.pem", cert: "cert.pem", key: "key.pem", expired: "expired.pem", expiredKey: "expired.key",
		} {
			ts.Check(os.Rename(from, filepath.Join(dir, to)))
		}
	}
}

// hasOpenCL reports whether this machine has an OpenCL device; where it must
// have one, it fails the test instead.
func hasOpenCL(t *testing.T) bool {
	devices, _ := gpurun.AllDevices()
	for _, d := range devices {
		if d.Backend == "opencl" {
			return true
		}
	}
	t.Run("opencl", func(t *testing.T) { testenv.Missing(t, "opencl", "there is no OpenCL device here") })
	return false
}

// hasOpenSSL is hasOpenCL for the command openssl.
func hasOpenSSL(t *testing.T) bool {
	if _, err := exec.LookPath("openssl"); err == nil {
		return true
	}
	t.Run("openssl", func(t *testing.T) { testenv.Missing(t, "openssl", "there is no openssl here") })
	return false
}

// TestFullDisk writes to a file system without room: the error says so, the
// exit code is 1, and no file is left.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		testenv.Missing(t, "root", "mounting a small tmpfs takes root on Linux")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", dir).CombinedOutput(); err != nil {
		testenv.Missing(t, "root", "a tmpfs cannot be mounted: "+string(out))
	}
	defer exec.Command("umount", dir).Run()
	for _, name := range []string{"m.png", "m.tif", "m.npy"} {
		var stdout, stderr buffer
		code := run(context.Background(), []string{"mandel", "--device", "cpu", "-o", filepath.Join(dir, name)}, &stdout, &stderr)
		if code != exitFailed {
			t.Errorf("%s: exit code %d: %s", name, code, stderr.String())
		}
		wantLine(t, stderr.String(), "no space left on device")
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 0 {
			t.Errorf("%s: %d files are left (%v)", name, len(entries), err)
		}
	}
}
