"""DPDispatcher's tools. Our own code uses none of them."""
