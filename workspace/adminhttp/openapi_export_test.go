package adminhttp

// OpenAPIJSON is for the tests.
var OpenAPIJSON = openAPIJSON
