module helm-canary.test/load
go 1.26
