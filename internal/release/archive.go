package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"
)

// pack returns an archive of files in a folder called name, and the archive's name: a
// zip for Windows, and else a tar.gz. Order, times, owners and modes are fixed.
func pack(name, goos string, all files, date time.Time) (archive []byte, as string, err error) {
	if goos == "windows" {
		archive, err = zipped(name, all, date)
		return archive, name + ".zip", err
	}
	archive, err = tarred(name, all, date)
	return archive, name + ".tar.gz", err
}

func (f file) mode() fs.FileMode {
	if f.executable {
		return 0o755
	}
	return 0o644
}

func tarred(folder string, all files, date time.Time) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		f := all[path]
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: folder + "/" + path, Size: int64(len(f.data)), Mode: int64(f.mode()),
			ModTime: date, Uname: "root", Gname: "root", Format: tar.FormatUSTAR,
		}
		if err := t.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	err = z.Close()
	return out.Bytes(), err
}

func zipped(folder string, all files, date time.Time) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		f := all[path]
		header := &zip.FileHeader{Name: folder + "/" + path, Method: zip.Deflate, Modified: date}
		header.SetMode(f.mode())
		w, err := z.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, bytes.NewReader(f.data)); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return out.Bytes(), err
}
