"""A real Apache Kafka on loopback for the demo, tests and benchmarks: its jars, its nodes; no client code of ours."""
