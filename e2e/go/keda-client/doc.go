// Package kedaclient holds tests that drive KEDA's own external scaler client against maniple's gRPC service.
//
// They need a server: set MANIPLE_SCRIPTED_SCALER to the scripted_scaler example of the package maniple-scaler, or run
// them by "cargo test -p maniple-scaler --test keda_client -- --ignored", which builds both.
package kedaclient
