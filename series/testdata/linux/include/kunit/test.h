#define KUNIT_CASE_PARAM(test_name, gen_params)
#define kunit_skip(test, fmt, ...)
