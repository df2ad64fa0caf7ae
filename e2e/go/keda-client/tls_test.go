package kedaclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for one test.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.certificate = &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	a.pem, a.key, _ = a.sign(a.certificate, nil)
	return a
}

// issue returns certificate and key for localhost.
func (a *authority) issue() (string, string) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	certificate, _, key := a.sign(template, a.certificate)
	return certificate, key
}

func (a *authority) sign(template, parent *x509.Certificate) (string, *ecdsa.PrivateKey, string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDer, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	text := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return text("CERTIFICATE", der), key, text("PRIVATE KEY", keyDer)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTLS(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	certificate, key := ours.issue()
	s := startServer(t, "--grpc-tls-cert", write(t, "tls.crt", certificate), "--grpc-tls-key", write(t, "tls.key", key))
	s.known("shop", 5, 5)

	trusting := config("localhost:"+s.port(), "shop", 0)
	trusting.AuthParams["caCert"] = ours.pem
	scaler := newPush(t, trusting)
	if value, active, err := ask(scaler, "s0-maniple-desired"); err != nil || value != "5" || !active {
		t.Fatalf("%q, %v, %v", value, active, err)
	}
	wantPush(t, run(t, scaler))

	unsafe := config("localhost:"+s.port(), "shop", 0)
	unsafe.TriggerMetadata["enableTLS"] = "true"
	unsafe.TriggerMetadata["unsafeSsl"] = "true"
	if value, _, err := ask(newPush(t, unsafe), "s0-maniple-desired"); err != nil || value != "5" {
		t.Fatalf("%q, %v", value, err)
	}

	distrusting := config("localhost:"+s.port(), "shop", 0)
	distrusting.AuthParams["caCert"] = other.pem
	if _, _, err := ask(newPush(t, distrusting), "s0-maniple-desired"); err == nil {
		t.Fatal("a server of another authority was believed")
	}
	if _, _, err := ask(newPush(t, config("localhost:"+s.port(), "shop", 0)), "s0-maniple-desired"); err == nil {
		t.Fatal("an encrypted port answered in clear text")
	}
}

func TestMutualTLS(t *testing.T) {
	ours, clients := newAuthority(t), newAuthority(t)
	certificate, key := ours.issue()
	s := startServer(t,
		"--grpc-tls-cert", write(t, "tls.crt", certificate),
		"--grpc-tls-key", write(t, "tls.key", key),
		"--grpc-tls-client-ca", write(t, "ca.crt", clients.pem))
	s.known("shop", 5, 5)

	with := func(issuer *authority) (string, bool, error) {
		c := config("localhost:"+s.port(), "shop", 0)
		c.AuthParams["caCert"] = ours.pem
		if issuer != nil {
			c.AuthParams["tlsClientCert"], c.AuthParams["tlsClientKey"] = issuer.issue()
		}
		return ask(newPush(t, c), "s0-maniple-desired")
	}
	if value, active, err := with(clients); err != nil || value != "5" || !active {
		t.Fatalf("%q, %v, %v", value, active, err)
	}
	if _, _, err := with(nil); err == nil {
		t.Error("a client without a certificate was served")
	}
	if _, _, err := with(ours); err == nil {
		t.Error("a client of another authority was served")
	}
}
