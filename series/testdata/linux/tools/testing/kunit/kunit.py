	parser.add_argument('--qemu_args')
