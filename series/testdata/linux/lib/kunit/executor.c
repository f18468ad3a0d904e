int kunit_run_all_tests(void)
