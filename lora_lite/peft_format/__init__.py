"""peft's folders, adapter_config.json and adapter_model.safetensors, written and read without peft."""
