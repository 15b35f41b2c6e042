module helm-canary.test/app
go 1.26
